"""The judge: whoever can tell how good an output is, and never selects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from functools import partial

from flywheel.core.functions import load_function, reason_of
from flywheel.errors import DataError, FlywheelError
from flywheel.records import Judge, Task


def function_judge(name: str) -> Judge:
    """The judge behind ``module:function``, its answers checked; raises ConfigError where there is none."""
    return partial(ask, load_function(name, "evaluation.judge"), name)


def ask(judge: Judge, name: str, rows: Sequence[tuple[Task, str]]) -> list[float | None]:
    """What the judge says of each output; raises DataError where it fails or says what is no number."""
    try:
        judged = judge(rows)
        if isinstance(judged, (str, bytes, Mapping, Set)):
            raise TypeError(f"it gave a {type(judged).__name__}, and should give a list of numbers")
        numbers = [None if one is None else float(one) for one in judged]
    except FlywheelError:  # ours: it says itself what to do
        raise
    except (Exception, SystemExit) as error:  # whatever the user's function raises
        raise DataError(f"the judge {name} failed ({reason_of(error)}); mend it and go on with `flywheel round`") from None
    if len(numbers) != len(rows):
        count = f"{len(numbers)} number{'s' * (len(numbers) != 1)}"
        raise DataError(f"the judge {name} gave {count} for {len(rows)} outputs; it must give one for each")
    for (_, output), number in zip(rows, numbers, strict=True):
        if number is not None and not math.isfinite(number):
            raise DataError(f"the judge {name} gave {number} for {output[:40]!r}; it must give a finite number or None")
    return numbers
