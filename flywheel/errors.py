"""Errors that the user can fix. The command line prints each as ``error: message`` and ``hint: what to do``, with exit code 1.

Any other exception is a defect of flywheel and keeps its traceback.
"""

from __future__ import annotations

import signal

RESUME = "Finished chunks and models are kept. Run the same command to resume."


class FlywheelError(Exception):
    """The base of all errors that the user can fix."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message, self.hint = message, hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class ConfigError(FlywheelError):
    """A configuration or argument that is invalid, or names something that does not exist."""


class DataError(FlywheelError):
    """A data file that is missing or has an invalid row."""


class ModelError(FlywheelError):
    """A model folder that is missing, incomplete or corrupt."""


class EngineError(FlywheelError):
    """An engine that cannot start or fails: a missing package, an unreachable server, too little memory."""


class StoreError(FlywheelError):
    """A workspace or database that cannot be read or written as asked."""


class StoreHeld(StoreError):
    """A database that another process holds open for too long."""


class WorkspaceHeld(StoreError):
    """A workspace that another process is using."""


class Stopped(FlywheelError):
    """Work that was stopped on request and can be resumed by the same command."""


class BudgetSpent(Stopped):
    """The budget of a call is spent."""


class Interrupted(Stopped):
    """Ctrl-C or SIGTERM."""

    def __init__(self, number: int, hint: str = RESUME) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}", hint)
        self.args = (number, hint)
        self.signal = number


def first_line(error: BaseException) -> str:
    """The first line of a library's error message; the error's type where the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
