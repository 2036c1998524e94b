"""The judge: any Python function that can tell how good an output is, and that never selects."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

from flywheel.errors import ConfigError
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
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"evaluation.judge {name!r} cannot be had: {error}") from None
    if not callable(function):
        raise ConfigError(f"evaluation.judge {name!r} is not a function")
    judge: Judge = function
    return judge
