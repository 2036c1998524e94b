"""How long work reports its progress; `flywheel.report.progress` shows it on a terminal or in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int, int], None]
"""Takes the optimizer steps done and their total; may raise Stopped to stop."""


class Counter(Protocol):
    """Counts what is done of one piece of work."""

    def to(self, done: int, total: int | None = None) -> None:
        """Set how much is done, and the total if it has become known."""


class Progress(Protocol):
    """Shows pieces of work, one after another."""

    def work(self, name: str, *, total: int | None, unit: str, done: int = 0) -> AbstractContextManager[Counter]:
        """Show a piece of work for the length of a with block."""


class Silent:
    """Shows nothing: for scripts and tests."""

    @contextmanager
    def work(self, name: str, *, total: int | None, unit: str, done: int = 0) -> Iterator[Counter]:
        yield self

    def to(self, done: int, total: int | None = None) -> None:
        return
