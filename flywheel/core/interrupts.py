"""Ctrl-C and SIGTERM: the first finishes the current chunk and keeps it, the second stops at once.

A third is left to the system. Signals belong to the process, and so does the request to stop.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from flywheel.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_received: list[int] = []


def check() -> None:
    """Raise Interrupted where a signal has asked to stop; work calls this wherever it can be resumed."""
    if _received:
        raise Interrupted(_received[0])


@contextmanager
def finishing_chunks(report: Callable[[str], None]) -> Iterator[None]:
    """Let the first signal wait for `check` for the length of the block; ``report`` gets the line that says so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if _received:
            for name in SIGNALS:
                signal.signal(name, signal.SIG_DFL)
            raise KeyboardInterrupt(number)
        _received.append(number)
        report("Stopping after the current chunk. Press Ctrl-C again to stop at once and lose that chunk.")

    before = {name: signal.signal(name, handle) for name in SIGNALS}
    try:
        yield
    finally:
        _received.clear()
        for name, handler in before.items():
            signal.signal(name, handler)
