"""The judge: any Python function that can tell how good an output is, and that never selects."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence

from flywheel.errors import ConfigError, DataError
from flywheel.records import Task

Judge = Callable[[Sequence[tuple[Task, str]]], list[float | None]]
"""Takes (task, output) pairs; returns a number for each, higher is better, or None where it cannot tell."""


def load_judge(name: str) -> Judge:
    """The function behind ``module:function``; raises ConfigError where there is none."""
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise ConfigError(f"evaluation.judge must be module:function, got {name!r}")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except Exception as error:  # whatever the user's module raises while it is imported
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigError(
            f"evaluation.judge {name!r} cannot be had ({reason}); it must be module:function of something Python can import, "
            "such as a file in a folder of PYTHONPATH"
        ) from None
    if not callable(function):
        raise ConfigError(f"evaluation.judge {name!r} is not a function")
    judge: Judge = function
    return judge


def ask(judge: Judge, name: str, rows: Sequence[tuple[Task, str]]) -> list[float | None]:
    """What the judge says of each output; raises DataError where it fails or says what is no number."""
    try:
        judged = list(judge(rows))
        numbers = [None if one is None else float(one) for one in judged]
    except Exception as error:  # whatever the user's function raises
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise DataError(f"the judge {name} failed ({reason}); mend it and go on with `flywheel round`") from None
    if len(numbers) != len(rows):
        raise DataError(f"the judge {name} gave {len(numbers)} numbers for {len(rows)} outputs; it must give one for each")
    for (_, output), number in zip(rows, numbers, strict=True):
        if number is not None and not math.isfinite(number):
            raise DataError(f"the judge {name} gave {number} for {output[:40]!r}; it must give a finite number or None")
    return numbers
