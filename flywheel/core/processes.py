"""Trainings in processes of their own, each joined to this one by a pipe.

The processes of `multiprocessing` import the caller's script again, which fails in a script without a main guard. So a process
is started as a module, and its end of the pipe is its stdin, which `accelerate launch` passes on to the processes that it
starts. A process sends each step and waits for the answer, so that a budget stops it at a step as it does in this process.
Whatever ends this process, a kill too, breaks the pipe, and with it the training.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Self

from flywheel.core.progress import Advance
from flywheel.errors import BudgetSpent, EngineError, FlywheelError, Stopped, first_line

PATIENCE_S = 60
"""How long a process may take to end; torch gives its own processes half of it."""


class Process:
    """A training process for the length of a with block, in a session of its own: a Ctrl-C reaches it through this process.

    The process calls ``train`` with an `Advance`; without it, ``command`` must name a module that calls `run_training`.
    """

    def __init__(
        self,
        train: Callable[[Advance], Any] | None = None,
        *,
        command: Sequence[str] = (sys.executable, "-m", "flywheel.core.processes"),
        environment: Mapping[str, str],
        memory_hint: str,
    ) -> None:
        self._memory_hint = memory_hint
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the process is)
        self._connection, child = Pipe()
        with child:
            self._process = subprocess.Popen(
                command, env=os.environ | environment, stdin=child.fileno(), stdout=self._output, stderr=self._output,
                start_new_session=True,
            )  # fmt: skip
        if train is not None:
            with suppress(ConnectionError):  # a process that has died says why in `result`
                self._connection.send(train)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self._connection.close()
        self._output.close()

    def result(self, advance: Advance) -> Any:
        """Pass on the steps of the training and return its result.

        Raises the FlywheelError that ends it, which is the one that ``advance`` raised where that stopped it.
        """
        stopped: Stopped | None = None
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, ConnectionError):
                raise self._failure() from None
            match message:
                case "step", done, total:
                    try:
                        advance(done, total)
                    except Stopped as reason:
                        stopped = reason
                    with suppress(ConnectionError):
                        self._connection.send(stopped is None)
                case "result", result:
                    self._wait()
                    return result
                case "error", FlywheelError() as error:
                    raise stopped if stopped and isinstance(error, Stopped) else error
                case "error", text:
                    raise self._failure(text)

    def kill(self) -> None:
        """End the process at once, and those that it started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                os.killpg(self._process.pid, number)
                self._wait()

    def _wait(self) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)

    def _failure(self, text: str = "") -> EngineError:
        """The error of a process that was killed, or that failed with an exception of a library's."""
        self._wait()
        self._output.seek(0)
        output = self._output.read().decode(errors="replace")
        if self._process.returncode == -signal.SIGKILL or re.search(r"Signal 9 \(SIGKILL\)|<Signals\.SIGKILL", output):
            return EngineError("A training process was killed, most likely because memory ran out.", self._memory_hint)
        lines = re.findall(r"^[\w.]+(?:Error|Exception)\b.*", output, re.MULTILINE) or output.split("\n")
        return EngineError(f"A training process failed: {text or lines[-1]}")


def run_training(train: Callable[[Advance], Any] | None = None) -> None:
    """Run a training in a process that `Process` started: ``train``, or else the one that arrives through the pipe.

    The result is sent unless it is None, and so is an error before it is raised.
    """
    connection = Connection(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # or a process that this one starts could keep the pipe open

    def advance(done: int, total: int) -> None:
        connection.send(("step", done, total))
        if not connection.recv():
            raise BudgetSpent("The training was stopped by the process that started it.")

    try:
        train = train or connection.recv()
        from flywheel.core.quiet import silence

        silence()
        if (result := train(advance)) is not None:
            connection.send(("result", result))
    except Exception as error:
        ours = isinstance(error, FlywheelError)
        connection.send(("error", error if ours else f"{type(error).__name__}: {first_line(error)}"))
        raise


if __name__ == "__main__":
    run_training()
