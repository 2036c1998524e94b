"""What one call may spend: tokens, minutes, money. It stops between chunks, and every finished chunk is kept.

Tokens and money are counted when a chunk is committed, time whenever work reports progress; a training that is stopped
keeps a checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from flywheel.config import BudgetConfig, PricesConfig
from flywheel.core import interrupts
from flywheel.core.progress import Counter, Progress
from flywheel.engines.contract import Engine, Sampling, prompt_tokens
from flywheel.errors import RESUME, BudgetSpent
from flywheel.records import Completion


class Budget:
    """Counts what is spent from now on."""

    def __init__(self, limits: BudgetConfig, prices: PricesConfig) -> None:
        self._limits, self._prices = limits, prices
        self._started = time.monotonic()
        self._tokens, self._paid, self._due = 0, 0.0, 0.0

    def spend(self, tokens: int, prompt_tokens: int = 0, *, free: bool = False) -> None:
        """Count tokens generated and read; ``free`` ones cost no money. Raises BudgetSpent as `check` does."""
        self._tokens += tokens
        self._paid += 0.0 if free else self.cost(tokens=tokens, prompt_tokens=prompt_tokens)
        self.check()

    def cost(self, *, tokens: int = 0, prompt_tokens: int = 0, seconds: float = 0.0) -> float:
        """What work costs at the configured prices."""
        return self._prices.cost(tokens=tokens, prompt_tokens=prompt_tokens, seconds=seconds)

    def guard(self, engine: Engine, *, choices: int) -> Engine:
        """The generator's engine; where tokens have a price, it refuses a request that could cost more than is left.

        It reads a prompt once per ``choices`` completions.
        """
        priced = self._prices.million_tokens or self._prices.million_prompt_tokens
        return _Reserving(engine, self, choices) if priced and self._limits.cost is not None else engine

    def metered(self, engine: Engine, prices: PricesConfig) -> Engine:
        """Another engine, such as a judge's, whose tokens are paid at these prices."""
        return _Reserving(engine, self, prices=prices)

    def owe(self, cost: float) -> None:
        """Count what a metered engine has cost."""
        self._paid += cost
        self._due += cost

    def due(self) -> float:
        """What metered engines have cost since the last call."""
        due, self._due = self._due, 0.0
        return due

    def reserve(self, *, tokens: int, prompt_tokens: int, prices: PricesConfig | None = None) -> None:
        """Raise BudgetSpent where this many more tokens, at ``prices`` or the configured ones, could cost more than is left."""
        limit, spent = self._limits.cost, self._paid_so_far()
        most = (prices or self._prices).cost(tokens=tokens, prompt_tokens=prompt_tokens, seconds=0.0)
        if limit is not None and spent + most > limit:
            message = (
                f"the next chunk could exceed budget.cost = {limit:,} (spent: {spent:,.4g}; next chunk: up to {most:,.4g})"
            )
            raise BudgetSpent(message, "Finished chunks are kept. Raise `budget.cost` and run the same command to resume.")

    def check(self) -> None:
        """Raise BudgetSpent where a limit is reached, Interrupted where a signal has asked to stop."""
        interrupts.check()
        minutes = (time.monotonic() - self._started) / 60
        for name, value in {"tokens": self._tokens, "minutes": minutes, "cost": self._paid_so_far()}.items():
            limit = getattr(self._limits, name)
            if limit is not None and value >= limit:
                figure = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
                raise BudgetSpent(f"budget.{name} = {limit:,} is spent ({figure})", RESUME)

    def watch(self, progress: Progress) -> Progress:
        """Progress that checks the budget whenever work reports how far it is."""
        return _Watched(progress, self)

    def _paid_so_far(self) -> float:
        return self._paid + self.cost(seconds=time.monotonic() - self._started)


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


@dataclass(frozen=True, slots=True)
class _Reserving:
    """Reserves the cost of every request. A token has at least one byte, so a prompt has at most as many tokens as bytes."""

    engine: Engine
    budget: Budget
    choices: int = 1
    """A prompt is read once per this many completions."""
    prices: PricesConfig | None = None
    """The engine's own prices, at which what it generates is counted; None where the stage counts it."""

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        read = sum(len(prompt.encode()) for prompt in prompts) * math.ceil(n / self.choices)
        self.budget.reserve(tokens=len(prompts) * n * sampling.max_tokens, prompt_tokens=read, prices=self.prices)
        completions = self.engine.generate(prompts, n=n, sampling=sampling, seed=seed)
        if self.prices is not None:
            tokens = sum(completion.tokens for group in completions for completion in group)
            self.budget.owe(self.prices.cost(tokens=tokens, prompt_tokens=prompt_tokens(completions), seconds=0.0))
        return completions

    def close(self) -> None:
        self.engine.close()
