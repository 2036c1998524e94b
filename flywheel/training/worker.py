"""One process of a training: `accelerate launch … -m flywheel.training.worker FOLDER`, the other side of `launch.py`."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

from flywheel.errors import BudgetSpent
from flywheel.training.job import Job

SOCKET, ERROR = "socket", "error.*.json"
"""Names in the training's folder: where to tell how far it is, what ended a process."""


class Line:
    """The first process's line to the one that launched it."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))
        self._replies = self._socket.makefile(encoding="utf-8")

    def tell(self, **values: object) -> None:
        """Say something."""
        self._socket.sendall(json.dumps(values).encode() + b"\n")

    def advance(self, done: int, total: int) -> None:
        """Tell a step; raises BudgetSpent where the reply is to stop, EOFError where there is none."""
        self.tell(done=done, total=total)
        reply = self._replies.readline()
        if reply == "stop\n":
            raise BudgetSpent("stopped by the process that launched this one")
        if not reply:
            raise EOFError("the process that launched this training has ended")


def main(folder: Path) -> None:
    """Do this process's part; the first one tells the figures, or that it was stopped."""
    first = os.environ.get("RANK", "0") == "0"
    line = Line(folder / SOCKET) if first else None
    from torch import distributed

    from flywheel.quiet import silence
    from flywheel.training.sft import train

    silence()
    try:
        numbers = train(Job.read(folder), line.advance if line else lambda done, total: None)
    except BudgetSpent:
        numbers = None
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
    if line:
        line.tell(numbers=numbers)


def record(folder: Path, error: Exception) -> None:
    """Leave word of what ended this process."""
    path = folder / ERROR.replace("*", os.environ.get("RANK", "0"))
    said = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "")
    path.write_text(json.dumps({"kind": type(error).__name__, "said": said}), encoding="utf-8")


if __name__ == "__main__":
    given = Path(sys.argv[1])
    try:
        main(given)
    except Exception as error:
        record(given, error)
        raise
