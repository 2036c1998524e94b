"""A training in a process of its own: this side starts it and hears how far it is, that side does it and tells.

The process tells each step through a socket and waits for the word to go on, so that a budget stops it at a step as it does
here. Whatever ends this side, a kill too, breaks the connection, and with it the training.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel import errors
from flywheel.errors import BudgetSpent, EngineError, FlywheelError, Stopped

if TYPE_CHECKING:
    from flywheel.core.progress import Advance

SOCKET, ERROR = "socket", "error.*.json"
"""Names in the folder of a process: where to tell how far it is, what ended it."""
PATIENCE_S = 60
"""How long processes may take to end: torch gives its own half of it."""
LOOK_UP_S = 0.2
"""How often this side looks up from its waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A training to be started; it hands over in ``folder``, whose name must be short enough for a socket's."""

    command: Sequence[str]
    folder: Path
    called: str
    """What a message names where the process says nothing that can be repeated."""
    where_memory_is_short: str
    """What to do then."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """On top of this process's own."""

    def run(self, advance: Advance, *, given_up: threading.Event | None = None) -> dict[str, Any]:
        """Start it, hear it out, and return what it tells at its end.

        Raises again what ``advance`` raises to stop it, and what stopped it there; kills it where ``given_up`` is set.
        """
        with _listening(self.folder / SOCKET) as server, self._running() as process:
            answer = _follow(server, process, advance, given_up or threading.Event())
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_S)
            if answer is None:
                raise self._failure(process)
            return answer

    @contextlib.contextmanager
    def _running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The process for the length of a with block, in a session of its own: a Ctrl-C here reaches it through here."""
        with (self.folder / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                self.command, env=os.environ | self.environment, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr,
                start_new_session=True,
            )  # fmt: skip
        try:
            yield process
        finally:
            for signalled in (signal.SIGTERM, signal.SIGKILL):
                if process.poll() is None:
                    os.killpg(process.pid, signalled)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(PATIENCE_S)

    def _failure(self, process: subprocess.Popen[bytes]) -> FlywheelError:
        """What ended the training, in one line: the first process to say so is the one that the others fell over."""
        found = sorted(self.folder.glob(ERROR), key=lambda path: path.stat().st_mtime_ns)
        said = [json.loads(path.read_text(encoding="utf-8")) for path in found]
        for error in said:
            kind = getattr(errors, error["kind"], None)
            if isinstance(kind, type) and issubclass(kind, FlywheelError):
                return kind(error["said"])
        printed = (self.folder / "stderr").read_text(encoding="utf-8", errors="replace")
        killed = re.search(r"Signal 9 \(SIGKILL\)|died with <Signals\.SIGKILL", printed)
        if killed or process.returncode == -signal.SIGKILL:
            return EngineError(f"a training process was killed, as happens where memory is short; {self.where_memory_is_short}")
        if said:
            return EngineError(f"a training process failed: {said[0]['kind']}: {said[0]['said']}")
        raised = re.findall(r"^[\w.]+(?:Error|Exception)\b.*", printed, re.MULTILINE) or printed.split("\n")
        return EngineError(
            f"{self.called} failed: {next((line for line in reversed(raised) if line.strip()), 'it says nothing')}"
        )


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        try:
            server.bind(str(path))
        except OSError as error:
            raise EngineError(
                f"cannot listen for the training's processes at {path}: {error}; set TMPDIR to another place"
            ) from None
        server.listen(1)
        server.settimeout(LOOK_UP_S)
        yield server


def _follow(
    server: socket.socket, process: subprocess.Popen[bytes], advance: Advance, given_up: threading.Event
) -> dict[str, Any] | None:
    """Hear the process out; returns what it tells at its end, None where it broke off, and raises why it was stopped."""
    while True:
        try:
            connection, _ = server.accept()
            break
        except TimeoutError:
            _refuse_if_given_up(given_up)
            if process.poll() is not None:
                return None
    stopped: Stopped | None = None
    # Where the line breaks, the process says why.
    with connection, connection.makefile(encoding="utf-8") as lines, contextlib.suppress(ConnectionError):
        connection.settimeout(None)
        while True:
            # A line is told only after the one before it was answered, so none waits unseen behind another.
            while not select.select([connection], [], [], LOOK_UP_S)[0]:
                _refuse_if_given_up(given_up)
            line = lines.readline()
            if not line:
                break
            told = json.loads(line)
            if "answer" in told:
                if told["answer"] is None and stopped:
                    raise stopped
                return dict(told["answer"])
            try:
                advance(told["done"], told["total"])
            except Stopped as reason:
                stopped = reason
            connection.sendall(b"stop\n" if stopped else b"go\n")
    return None


def _refuse_if_given_up(given_up: threading.Event) -> None:
    if given_up.is_set():
        raise Stopped("a training was given up")


class Line:
    """The process's line to the one that started it."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(folder / SOCKET))
        self._replies = self._socket.makefile(encoding="utf-8")

    def advance(self, done: int, total: int) -> None:
        """Tell a step; raises BudgetSpent where the reply is to stop, EOFError where there is none."""
        self._tell(done=done, total=total)
        reply = self._replies.readline()
        if reply == "stop\n":
            raise BudgetSpent("stopped by the process that launched this one")
        if not reply:
            raise EOFError("the process that launched this training has ended")

    def end(self, answer: Mapping[str, Any] | None) -> None:
        """Tell what came of it; None where it was stopped."""
        self._tell(answer=answer)

    def _tell(self, **values: object) -> None:
        self._socket.sendall(json.dumps(values).encode() + b"\n")


@contextlib.contextmanager
def leaving_word(folder: Path) -> Iterator[None]:
    """In the process: leave word of an error that ends it, or nothing at all where whoever started it is gone."""
    try:
        yield
    except (EOFError, ConnectionError):  # there is nobody to read it, nor to remove the folder
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except Exception as error:
        path = folder / ERROR.replace("*", os.environ.get("RANK", "0"))
        said = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "")
        path.write_text(json.dumps({"kind": type(error).__name__, "said": said}), encoding="utf-8")
        raise
