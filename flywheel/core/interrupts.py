"""Ctrl-C and SIGTERM: the first one finishes the chunk at work and keeps it, the second stops at once.

A third is the system's to handle. Signals are the process's, and so is what they asked for.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from flywheel.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_asked: list[int] = []


def check() -> None:
    """Raise Interrupted where a signal has asked to stop; work calls this wherever it can be gone on with."""
    if _asked:
        raise Interrupted(_asked[0])


@contextmanager
def finishing_chunks(tell: Callable[[str], None]) -> Iterator[None]:
    """Let the first signal wait for `check` for the length of the block; ``tell`` gets the line that says so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def asked(number: int, frame: FrameType | None) -> None:
        if _asked:
            for one in SIGNALS:
                signal.signal(one, signal.SIG_DFL)
            raise KeyboardInterrupt(number)
        _asked.append(number)
        tell("stopping as soon as the chunk at work is kept; once more stops at once, without it")

    before = {one: signal.signal(one, asked) for one in SIGNALS}
    try:
        yield
    finally:
        _asked.clear()
        for one, handler in before.items():
            signal.signal(one, handler)
