"""Progress on stderr: a bar with rate and remaining time on a terminal, one line per piece of work elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from flywheel.core.progress import Counter
from flywheel.core.safe_text import visible

TELL_EVERY_S = 30.0
"""Where there is no terminal for a bar, long work says this often how far it is."""


class Terminal:
    """Shows pieces of work one after another, and leaves a line for each; ``beside`` says what is shown beside the bars."""

    def __init__(self, beside: Callable[[], str] = lambda: "") -> None:
        self._console, self._beside = Console(stderr=True, highlight=False), beside

    @contextmanager
    def work(self, name: str, *, total: int | None, unit: str, done: int = 0) -> Iterator[Counter]:
        columns = (
            TextColumn("{task.description:<22}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.fields[total_text]} {task.fields[unit]}", markup=False),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            TextColumn("{task.fields[beside]}", markup=False, style="dim"),
        )
        name, started = visible(name), time.monotonic()
        with Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as bar:
            task = bar.add_task(name, total=total, completed=done, unit=unit, rate="", beside="", total_text=_number(total))
            counter = _Bar(bar, task, done, self._beside)
            if not self._console.is_terminal:
                counter.tell = lambda text: self._console.print(f"{name:<22} {text}", markup=False)
            yield counter
        seconds = time.monotonic() - started
        speed = (counter.done - done) / seconds if seconds > 0 else 0.0
        rate = f", {speed:,.{0 if speed >= 10 else 1}f}/s" if counter.done - done > 1 and speed else ""
        self._console.print(f"{name:<22} {counter.done:,} {unit} in {seconds:.1f} s{rate}", markup=False)


class _Bar:
    """One bar; its rate is measured from where the work went on."""

    def __init__(self, bar: Progress, task: TaskID, done: int, beside: Callable[[], str]) -> None:
        self._bar, self._task, self._from, self._started, self._beside = bar, task, done, time.monotonic(), beside
        self.done = done
        self.tell: Callable[[str], None] | None = None
        self._told = self._started

    def to(self, done: int, total: int | None = None) -> None:
        self.done = done
        seconds = time.monotonic() - self._started
        rate = f"{(done - self._from) / seconds:,.1f}/s" if seconds > 0 else ""
        known: dict[str, Any] = {} if total is None else {"total": total, "total_text": _number(total)}
        self._bar.update(self._task, completed=done, rate=rate, beside=self._beside(), **known)
        if self.tell and time.monotonic() - self._told > TELL_EVERY_S:
            self._told = time.monotonic()
            self.tell(", ".join(part for part in (f"{done:,} so far", rate, self._beside()) if part))


def _number(total: int | None) -> str:
    return "?" if total is None else f"{total:,}"
