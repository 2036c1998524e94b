"""Chunks of work, the steps that each goes through, and workers that take these steps."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from typing import Protocol

from flywheel.engines.contract import Completions, Engine, Request
from flywheel.errors import EngineError
from flywheel.records import FinishReason, Task
from flywheel.reward.text import Answer, Scorer


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A chunk: what is asked for, and its results so far."""

    request: Request | None = None
    """None where the completions already exist."""
    tasks: Sequence[Task] = ()
    """The tasks of the prompts, for scoring."""
    completions: Completions = ()
    scores: Sequence[float] = ()
    """One for each completion, task by task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A chunk that failed in every attempt."""

    index: int
    """Its place among the chunks that were given."""
    error: str


class Step(StrEnum):
    """What is done with a chunk."""

    GENERATE = "generate"
    SCORE = "score"


class Workers(Protocol):
    """Take chunks and return them in order; the completions and scores are the same for all kinds of workers."""

    def run(self, chunks: Iterable[Work], *steps: Step) -> Generator[Work | Failed]:
        """Take each chunk through these steps.

        Further chunks may be started before the first is returned, so none may depend on the result of another. Close the
        generator to abandon the rest.
        """
        ...

    def close(self) -> None:
        """Free the memory of the models."""
        ...


def finished(work: Work | Failed) -> Work:
    """A chunk that the caller cannot do without; raises EngineError where it failed."""
    if isinstance(work, Failed):
        raise EngineError(f"a chunk failed: {work.error}", "Fix the cause, then run the same command to resume.")
    return work


def generate(work: Work, engine: Engine) -> Work:
    """The chunk with the completions that it asks for; without a request it stays the same."""
    if (request := work.request) is None:
        return work
    completions = engine.generate(request.prompts, n=request.n, sampling=request.sampling, seed=request.seed)
    return replace(work, completions=completions)


def score(work: Work, scorer: Scorer) -> Work:
    """The chunk with a score for every completion."""
    answers = [
        Answer(task=task, output=completion.text, finished=completion.finish_reason == FinishReason.STOP)
        for task, completions in zip(work.tasks, work.completions, strict=True)
        for completion in completions
    ]
    return replace(work, scores=scorer.score_answers(answers))


class LocalWorkers:
    """This process, one chunk after another; engine and reward model are loaded when they are first needed."""

    def __init__(self, load_engine: Callable[[], Engine], load_scorer: Callable[[], Scorer]) -> None:
        self._engine, self._scorer = cache(load_engine), cache(load_scorer)

    def run(self, chunks: Iterable[Work], *steps: Step) -> Generator[Work | Failed]:
        for work in chunks:
            for step in steps:
                work = generate(work, self._engine()) if step == Step.GENERATE else score(work, self._scorer())
            yield work

    def close(self) -> None:
        if self._engine.cache_info().currsize:
            self._engine().close()
        self._engine.cache_clear()
        self._scorer.cache_clear()
