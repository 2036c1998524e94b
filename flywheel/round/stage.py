"""A stage at work: it commits chunk by chunk, and resumes after the last committed one.

The rows of a chunk and the progress of its stage are one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from flywheel.core.progress import Counter
from flywheel.records import Chunk, Stage
from flywheel.round.context import RoundContext
from flywheel.store.store import BLOCK

Item = TypeVar("Item")


class OpenStage:
    """A stage that is not finished: how far earlier calls came, and where the next chunks go."""

    def __init__(self, context: RoundContext, stage: Stage, done: int, counter: Counter) -> None:
        self._context, self._stage, self._since = context, stage, time.monotonic()
        self.done = done
        """Number of committed chunks."""
        self.progress = counter

    def commit(self, chunk: Chunk[Any], *, seconds: float | None = None) -> None:
        """Commit a chunk that took some seconds, by default those since the last commit.

        Raises BudgetSpent or Interrupted, after the commit, where the round has to stop.
        """
        store, budget, config = self._context.store, self._context.budget, self._context.config
        seconds = self.elapsed if seconds is None else seconds
        # Prices are the generator's: a student that answers held-out tasks costs only its machine's time.
        free = self._stage == Stage.EVALUATE and config.training.student is not None
        tokens, prompt_tokens = (0, 0) if free else (chunk.tokens, chunk.prompt_tokens)
        cost = budget.cost(tokens=tokens, prompt_tokens=prompt_tokens, seconds=seconds) + budget.due()
        store.commit(self._context.name, self._stage, chunk, seconds=seconds, cost=cost)
        budget.spend(chunk.tokens, chunk.prompt_tokens, free=free)
        self._since = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the last commit."""
        return time.monotonic() - self._since


@contextmanager
def open_stages(context: RoundContext, *stages: Stage, total: int | None, unit: str) -> Iterator[list[OpenStage]]:
    """Open stages that run side by side, for the length of a with block; none where one of them is finished."""
    before = [context.store.progress(context.name, stage) for stage in stages]
    if any(progress.finished for progress in before):
        yield []
        return
    work = context.budget.watch(context.progress).work(f"{context.name} {' and '.join(stages)}", total=total, unit=unit)
    with work as counter:
        yield [OpenStage(context, stage, done.chunks, counter) for stage, done in zip(stages, before, strict=True)]


@contextmanager
def open_stage(context: RoundContext, stage: Stage, *, total: int | None, unit: str) -> Iterator[OpenStage | None]:
    """Open a stage for the length of a with block; None where it is finished."""
    with open_stages(context, stage, total=total, unit=unit) as opened:
        yield opened[0] if opened else None


def chunks(context: RoundContext, done: int, read: Callable[[range], Sequence[Item]]) -> Iterator[Sequence[Item]]:
    """The items of every chunk after the first ``done``.

    ``read`` gives one item for each task of some attempts; it is asked for many chunks at once, never for a whole round.
    """
    size = context.config.engine.chunk
    spans, together = context.store.spans(context.name, size), max(1, BLOCK // size)
    for first in range(done, len(spans), together):
        block = spans[first : first + together]
        items = read(range(block[0].start, block[-1].stop))
        for place in range(len(block)):
            yield items[place * size : (place + 1) * size]
