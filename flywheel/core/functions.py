"""Functions of the user's own, named in the config as ``module:function``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flywheel.errors import ConfigError


def load_function(name: str, key: str) -> Callable[..., Any]:
    """The function behind ``module:function``; raises ConfigError that names the config key where there is none."""
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise ConfigError(f"{key} must be module:function, got {name!r}")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (Exception, SystemExit) as error:  # whatever the user's module raises while it is imported
        raise ConfigError(
            f"{key} {name!r} cannot be had ({reason_of(error)}); it must be module:function of something Python can import, "
            "such as a file in a folder of PYTHONPATH"
        ) from None
    if not callable(function):
        raise ConfigError(f"{key} {name!r} is not a function")
    loaded: Callable[..., Any] = function
    return loaded


def source_file(function: Callable[..., Any]) -> Path | None:
    """The file that a function was written in; None for one that was not written in Python."""
    try:
        found = inspect.getsourcefile(function)
    except TypeError:
        return None
    return Path(found) if found else None


def reason_of(error: BaseException) -> str:
    """The kind of an error and what it says, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
