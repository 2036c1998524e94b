"""Answer and score: N candidates for each kept task, and the merged reward model's score of each candidate."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from flywheel.core.seeds import derive
from flywheel.engines.contract import prompt_tokens
from flywheel.records import Chunk, FailedChunk, Stage
from flywheel.round.context import RoundContext
from flywheel.round.stage import chunks, open_stages
from flywheel.round.work import answering_work, candidates_of, scores_of, scoring_work
from flywheel.workers.work import Failed, Step, Work, finished


def answer(context: RoundContext) -> None:
    """Sample N candidates for each kept task."""
    _work_through(context, Stage.ANSWER)


def score(context: RoundContext) -> None:
    """Score every candidate with the merged reward model."""
    _work_through(context, Stage.SCORE)


def answer_and_score(context: RoundContext) -> None:
    """Both side by side, where a cluster has workers for both: a chunk is scored while the next ones are generated."""
    _work_through(context, Stage.ANSWER, Stage.SCORE)


def _work_through(context: RoundContext, *names: Stage) -> None:
    """Take every chunk through these stages, and commit it to each that does not have it yet."""
    size, n, tasks = context.config.engine.chunk, context.config.sampling.n, context.config.instructions.tasks
    with open_stages(context, *names, total=tasks * n, unit="candidates") as stages:
        if not stages:
            return
        total = len(context.store.spans(context.name, size))
        done = stages[-1].done
        answered = stages[0].done if Stage.ANSWER in names else total
        work = itertools.chain(itertools.islice(_to_score(context, done), answered - done), _to_answer(context, answered))
        steps = [Step.GENERATE if name == Stage.ANSWER else Step.SCORE for name in names]
        for index, chunk in enumerate(_checked(context.workers.run(work, *steps), before=done), start=done):
            new = [(name, stage) for name, stage in zip(names, stages, strict=True) if stage.done <= index]
            seconds = stages[-1].elapsed / len(new)
            for name, stage in new:
                stage.commit(_rows(context, name, chunk, index, last=index == total - 1), seconds=seconds)
            stages[-1].progress.to(min((index + 1) * size, tasks) * n)


def _rows(context: RoundContext, stage: Stage, work: Work | Failed, index: int, *, last: bool) -> Chunk[Any]:
    """What a stage commits of a chunk."""
    if isinstance(work, Failed):
        return Chunk(rows=[FailedChunk(stage=stage, chunk=index, error=work.error)], last=last)
    if stage == Stage.SCORE:
        groups = zip(work.tasks, work.completions, strict=True)
        places = [(task.task_id, place) for task, group in groups for place in range(len(group))]
        return Chunk(rows=scores_of(places, context.reward_model, work.scores), last=last)
    candidates = [replace(candidate, output=candidate.output.strip()) for candidate in candidates_of(work)]
    return Chunk(
        rows=candidates,
        last=last,
        tokens=sum(candidate.tokens for candidate in candidates),
        prompt_tokens=prompt_tokens(work.completions),
    )


def _to_answer(context: RoundContext, done: int) -> Iterator[Work]:
    """The kept tasks with their prompts, chunk by chunk after the first ``done``."""
    config, read = context.config, chunks(context, done, lambda attempts: context.store.tasks_of(context.name, attempts))
    for index, tasks in enumerate(read, start=done):
        seed = derive(config.seed, context.name, "answer", index)
        yield answering_work(config, context.prompts, tasks, n=config.sampling.n, seed=seed)


def _to_score(context: RoundContext, done: int) -> Iterator[Work]:
    """The stored candidates, chunk by chunk after the first ``done``."""
    return map(scoring_work, chunks(context, done, context.answered))


def _checked(chunks: Iterable[Work | Failed], *, before: int) -> Iterator[Work | Failed]:
    """The finished and the failed chunks; raises EngineError where all fail and none was done before.

    A chunk that fails among others is to blame itself; where every chunk fails, something else is wrong.
    """
    any_done, failed = before > 0, list[Failed]()
    for chunk in chunks:
        if isinstance(chunk, Failed) and not any_done:
            failed.append(chunk)
            continue
        any_done = True
        yield from failed
        failed.clear()
        yield chunk
    if failed:
        finished(failed[0])
