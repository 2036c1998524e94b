"""The user's own functions, named in the config as ``module:function``."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flywheel.errors import ConfigError


def load_function(name: str, key: str) -> Callable[..., Any]:
    """The function ``module:function``; raises ConfigError, which names the config key, where there is none."""
    if not all(name.partition(":")):
        raise ConfigError(f"{key} = {name!r} is not of the form module:function", "Name a function as `module:function`.")
    try:
        function: Callable[..., Any] = pkgutil.resolve_name(name)
    except (Exception, SystemExit) as error:  # whatever the user's module raises at import
        hint = "Fix the name or the module. If Python does not find the module, add its folder to PYTHONPATH."
        raise ConfigError(f"cannot import {name!r} ({key}): {reason_of(error)}", hint) from None
    if not callable(function):
        raise ConfigError(f"{key} = {name!r} is not a function", "Name a function or another callable of that module.")
    return function


def source_file(function: Callable[..., Any]) -> Path | None:
    """The file that defines a function; None if that is not Python."""
    try:
        path = inspect.getsourcefile(function)
    except TypeError:
        return None
    return Path(path) if path else None


def reason_of(error: BaseException) -> str:
    """The type and the message of an error, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
