"""Errors that are the user's to mend: printed in one line, without a traceback, exit code 1.

A message says what is wrong, which value is, and what to do. Anything else that is raised is a
defect of flywheel and keeps its traceback.
"""

from __future__ import annotations

GOES_ON = "finished chunks and models are kept, the same command without --restart goes on"


class FlywheelError(Exception):
    """What every error that is told in one line derives from."""


class ConfigError(FlywheelError):
    """A configuration that cannot be read, or asks for what does not exist."""


class DataError(FlywheelError):
    """A data file that is missing or has a broken row."""


class ModelError(FlywheelError):
    """A model folder that is missing, incomplete or corrupt."""


class EngineError(FlywheelError):
    """An engine that cannot start or fails at work: a package that is missing, a server that is gone, memory that is short."""


class StoreError(FlywheelError):
    """A workspace or database that cannot be read or written as asked."""


class StoreHeld(StoreError):
    """A database that another process holds open for too long."""


class WorkspaceHeld(StoreError):
    """A workspace that another process has for itself."""


class Stopped(FlywheelError):
    """Work that ended where it can be gone on with, as was asked: not a mistake, and the same command goes on."""


class BudgetSpent(Stopped):
    """The budget of a call is spent."""


class Interrupted(Stopped):
    """Ctrl-C or SIGTERM."""

    def __init__(self, number: int, said: str = GOES_ON) -> None:
        super().__init__(said)
        self.signal = number


def first_line(error: BaseException) -> str:
    """What a library says in its first line, without its advice and its drawings; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
