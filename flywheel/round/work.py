"""Converts tasks and candidates to work for the workers, and the results of the workers to rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flywheel.config import Config
from flywheel.engines.contract import Request
from flywheel.engines.generator import sampling_of
from flywheel.instructions.prompts import Prompts
from flywheel.records import Candidate, Completion, Score, Task
from flywheel.workers.work import Work


def answering_work(config: Config, prompts: Prompts, tasks: Sequence[Task], *, n: int, seed: int) -> Work:
    """Tasks, to be answered n times each."""
    texts = [prompts.answer(task) for task in tasks]
    return Work(tasks=tasks, request=Request(prompts=texts, n=n, sampling=sampling_of(config), seed=seed))


def scoring_work(answered: Sequence[tuple[Task, Sequence[Candidate]]]) -> Work:
    """Stored candidates, to be scored."""
    return Work(
        tasks=[task for task, _ in answered],
        completions=[
            [
                Completion(text=candidate.output, tokens=candidate.tokens, finish_reason=candidate.finish_reason)
                for candidate in candidates
            ]
            for _, candidates in answered
        ],
    )


def candidates_of(work: Work) -> list[Candidate]:
    """The completions of a chunk as they are recorded."""
    assert work.request is not None
    return [
        Candidate(
            task_id=task.task_id, candidate=place, output=completion.text, finish_reason=completion.finish_reason,
            tokens=completion.tokens, logprob=completion.logprob, seed=work.request.seed,
        )
        for task, group in zip(work.tasks, work.completions, strict=True)
        for place, completion in enumerate(group)
    ]  # fmt: skip


def scores_of(places: Iterable[tuple[str, int]], model_id: str, scores: Sequence[float | None]) -> list[Score]:
    """What a model gives candidates, each a task id with a number; those without a score are left out."""
    return [
        Score(task_id=task_id, candidate=candidate, model_id=model_id, score=score)
        for (task_id, candidate), score in zip(places, scores, strict=True)
        if score is not None
    ]
