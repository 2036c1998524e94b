"""Progress on stderr: a bar on a terminal, lines elsewhere; in a notebook, a bar below the cell."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from flywheel.core.progress import Counter, Progress
from flywheel.core.safe_text import visible

REPORT_EVERY_S = 30.0
"""Seconds between the lines on unfinished work where there is no terminal."""


def default_progress() -> Progress:
    """The progress that suits where this process runs."""
    return Notebook() if Console().is_jupyter else Terminal()


class Terminal:
    """Shows one bar at a time on stderr, and leaves a line for each piece of work."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)

    @contextmanager
    def work(self, name: str, *, total: int | None, unit: str, done: int = 0) -> Iterator[Counter]:
        columns = (
            TextColumn("{task.description:<22}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}", markup=False),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as bar:
            counter = _BarCounter(bar, visible(name), done, total, unit)
            yield counter
        self._console.print(counter.summary, markup=False)


class _BarCounter:
    """Moves a bar, or prints a line from time to time where there is no terminal."""

    def __init__(self, bar: RichProgress, name: str, done: int, total: int | None, unit: str) -> None:
        self._bar, self._name, self._unit = bar, name, unit
        self._first = self._done = done
        self._total = total
        self._started = self._printed = time.monotonic()
        self._task = bar.add_task(name, total=total, completed=done, count=self._count)

    def to(self, done: int, total: int | None = None) -> None:
        self._done, self._total = done, self._total if total is None else total
        self._bar.update(self._task, completed=done, total=self._total, count=self._count)
        if not self._bar.console.is_terminal and time.monotonic() - self._printed > REPORT_EVERY_S:
            self._printed = time.monotonic()
            self._bar.console.print(f"{self._name:<22} {self._count}", markup=False)

    @property
    def summary(self) -> str:
        """Such as ``propose  500 tasks in 147.1 s, 3.4/s``."""
        return f"{self._name:<22} {self._done:,} {self._unit} in {time.monotonic() - self._started:.1f} s{self._speed}"

    @property
    def _count(self) -> str:
        """Such as ``120/500 tasks, 3.4/s``."""
        return f"{self._done:,}/{'?' if self._total is None else f'{self._total:,}'} {self._unit}{self._speed}"

    @property
    def _speed(self) -> str:
        """How fast it is since this process started on it; empty while that is not known."""
        count, seconds = self._done - self._first, time.monotonic() - self._started
        speed = count / seconds if seconds > 0 else 0.0
        return f", {speed:,.{0 if speed >= 10 else 1}f}/s" if count > 1 and speed else ""


class Notebook:
    """Shows a tqdm bar for each piece of work: a widget where ipywidgets is installed, text elsewhere."""

    @contextmanager
    def work(self, name: str, *, total: int | None, unit: str, done: int = 0) -> Iterator[Counter]:
        from tqdm.auto import tqdm

        with tqdm(desc=visible(name), total=total, initial=done, unit=f" {unit}") as bar:
            yield _TqdmCounter(bar)


class _TqdmCounter:
    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def to(self, done: int, total: int | None = None) -> None:
        if total is not None:
            self._bar.total = total
        self._bar.update(done - self._bar.n)
