"""Chunks of work and what is done with them: written by an engine, scored by the reward model."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from flywheel.engines.contract import Engine, Request, Written
from flywheel.errors import EngineError
from flywheel.records import FinishReason, Task
from flywheel.reward.text import Answer, Scorer


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A chunk on its way: what is asked, and what has come of it so far."""

    request: Request | None = None
    """None where the texts are there already."""
    tasks: Sequence[Task] = ()
    """What the prompts ask, where the texts are to be scored."""
    written: Written = ()
    scores: Sequence[float] = ()
    """One for each text, task by task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A chunk that could not be done, whoever tried."""

    index: int
    """Its place among the chunks that were given."""
    error: str


class Do(StrEnum):
    """What can be done with a chunk."""

    WRITE = "write"
    SCORE = "score"


class Workers(Protocol):
    """Take chunks and give them back in order, with the same texts and scores whoever they are."""

    def do(self, chunks: Iterable[Work], *steps: Do) -> Generator[Work | Failed]:
        """Take these steps, one after another, with each chunk.

        Further chunks may be begun before the first is taken back, so none may depend on what comes of another. Whoever needs
        no more closes the generator.
        """
        ...

    def close(self) -> None:
        """Give the memory of the generator back."""
        ...


def finished(work: Work | Failed) -> Work:
    """A chunk that nothing can go on without; raises EngineError where it could not be done."""
    if isinstance(work, Failed):
        raise EngineError(f"a chunk could not be done ({work.error}); mend the cause, the same command goes on")
    return work


def write(work: Work, engine: Engine) -> Work:
    """The chunk with the completions that it asks for; one that is written already stays as it is."""
    asked = work.request
    if asked is None:
        return work
    return replace(work, written=engine.generate(asked.prompts, n=asked.n, sampling=asked.sampling, seed=asked.seed))


def score(work: Work, scorer: Scorer) -> Work:
    """The chunk with a score for every text."""
    texts = [
        Answer(task=task, output=one.text, finished=one.finish_reason == FinishReason.STOP)
        for task, group in zip(work.tasks, work.written, strict=True)
        for one in group
    ]
    return replace(work, scores=scorer.score_answers(texts))
