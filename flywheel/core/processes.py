"""Processes that this one starts, each connected to it by a pipe.

The processes of `multiprocessing` import the caller's script again, which fails in a script without a main guard. So a process
is started as a module, and its end of the pipe is its stdin, which `accelerate launch` passes on to the processes that it
starts. A training sends each step and waits for the answer, so that a budget stops it at a step as it does in this process.
When this process ends, even by a kill, the pipe breaks and the training ends, too.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Self

from flywheel.core.progress import Advance
from flywheel.errors import RESUME, BudgetSpent, EngineError, FlywheelError, Stopped, first_line

PATIENCE_S = 60.0
"""How long a process may take to end; torch gives its own processes half of it."""


class Child:
    """A Python module in a process and a session of its own: a Ctrl-C reaches it through this process.

    It gets its end of the pipe from `parent_connection`.
    """

    def __init__(self, *module: str, environment: Mapping[str, str]) -> None:
        """``module`` is its name, then its arguments."""
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the process is)
        self.connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *module], env=os.environ | environment, stdin=theirs.fileno(), stdout=self._output,
                stderr=self._output, start_new_session=True,
            )  # fmt: skip

    def wait(self, timeout_s: float = PATIENCE_S) -> int | None:
        """The exit code; None where the process is still running after that time."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def kill(self, *signals: int) -> None:
        """End the process, and those that it started, by these signals in turn; by default politely first."""
        for number in signals or (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                os.killpg(self._process.pid, number)
                self.wait()

    def output(self) -> str:
        """What it has printed."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def close(self) -> None:
        """Close the pipe and the output of a process that has ended."""
        self.connection.close()
        self._output.close()


def parent_connection() -> Connection:
    """A child's end of the pipe."""
    connection = Connection(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # or a process that this one starts could keep the pipe open
    return connection


class Process(Child):
    """A training process for the length of a with block; its module calls `run_training`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self.close()

    def result(self, advance: Advance) -> Any:
        """Pass on the steps of the training and return its result.

        Raises the FlywheelError that ends it, which is the one that ``advance`` raised where that stopped it.
        """
        stopped: Stopped | None = None
        while True:
            try:
                message = self.connection.recv()
            except (EOFError, ConnectionError):
                raise self._failure() from None
            match message:
                case "step", done, total:
                    try:
                        advance(done, total)
                    except Stopped as reason:
                        stopped = reason
                    with suppress(ConnectionError):
                        self.connection.send(stopped is None)
                case "result", result:
                    self.wait()
                    return result
                case "error", FlywheelError() as error:
                    raise stopped if stopped and isinstance(error, Stopped) else error
                case "error", text:
                    raise self._failure(text)

    def _failure(self, text: str = "") -> EngineError:
        """The error of a process that was killed, or that failed with an exception of a library's."""
        code, output = self.wait(), self.output()
        if code == -signal.SIGKILL or re.search(r"Signal 9 \(SIGKILL\)|<Signals\.SIGKILL", output):
            message = "a training process was killed, most likely because memory ran out"
            hint = "Set `training.gradient_checkpointing` to true to resume, or raise `training.accumulate` and add --restart."
            return EngineError(message, hint)
        lines = re.findall(r"^[\w.]+(?:Error|Exception)\b.*", output, re.MULTILINE) or output.split("\n")
        return EngineError(f"a training process failed: {text or lines[-1]}", f"Fix the cause. {RESUME}")


def run_training(train: Callable[[Advance], Any]) -> None:
    """Run a training in a process that `Process` started; its result is sent unless it is None, and so is its error."""
    connection = parent_connection()

    def advance(done: int, total: int) -> None:
        connection.send(("step", done, total))
        if not connection.recv():
            raise BudgetSpent("the training was stopped by the process that started it")

    try:
        from flywheel.core.quiet import silence

        silence()
        if (result := train(advance)) is not None:
            connection.send(("result", result))
    except Exception as error:
        ours = isinstance(error, FlywheelError)
        connection.send(("error", error if ours else f"{type(error).__name__}: {first_line(error)}"))
        raise
