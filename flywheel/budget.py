"""What one call may spend: tokens, minutes, money. It stops between chunks, and everything done is kept.

Tokens and money are counted when a chunk is committed, time whenever work tells how far it is; a training that is stopped
keeps a checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flywheel.config import BudgetConfig, PricesConfig
from flywheel.errors import BudgetSpent
from flywheel.progress import Counter, Progress


class Budget:
    """Counts what is spent from now on."""

    def __init__(self, limits: BudgetConfig, prices: PricesConfig) -> None:
        self._limits, self._prices = limits, prices
        self._started = time.monotonic()
        self._tokens = 0

    def spend(self, tokens: int) -> None:
        """Count generated tokens; raises BudgetSpent as `check` does."""
        self._tokens += tokens
        self.check()

    def cost(self, *, tokens: int, seconds: float) -> float:
        """What work costs at the configured prices."""
        return seconds / 3600 * self._prices.hour + tokens / 1e6 * self._prices.million_tokens

    def check(self) -> None:
        """Raise BudgetSpent where a limit is reached."""
        seconds = time.monotonic() - self._started
        spent = {"tokens": self._tokens, "minutes": seconds / 60, "cost": self.cost(tokens=self._tokens, seconds=seconds)}
        for name, value in spent.items():
            limit = getattr(self._limits, name)
            if limit is not None and value >= limit:
                figure = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
                raise BudgetSpent(
                    f"budget.{name} = {limit:,} is spent ({figure}); what is done is kept, "
                    "the same command goes on with a new budget"
                )

    def watch(self, progress: Progress) -> Progress:
        """Progress that raises BudgetSpent where work goes on after a limit is reached."""
        return _Watched(progress, self)


@dataclass(frozen=True, slots=True)
class _Watched:
    progress: Progress
    budget: Budget

    @contextmanager
    def work(self, name: str, *, total: int | None, unit: str, done: int = 0) -> Iterator[Counter]:
        self.budget.check()
        with self.progress.work(name, total=total, unit=unit, done=done) as counter:
            yield _WatchedCounter(counter, self.budget)


@dataclass(frozen=True, slots=True)
class _WatchedCounter:
    counter: Counter
    budget: Budget

    def to(self, done: int, total: int | None = None) -> None:
        self.counter.to(done, total)
        self.budget.check()
