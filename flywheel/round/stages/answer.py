"""Answer and score: N candidates for each kept task, and the merged reward model's score of each candidate."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from flywheel.core.seeds import derive
from flywheel.engines.contract import Request, prompt_tokens
from flywheel.engines.generator import sampling_of
from flywheel.records import Candidate, Chunk, Completion, FailedChunk, Score, Stage, Task
from flywheel.round.context import RoundContext
from flywheel.round.stage import chunks, number_of_chunks, open_stage, open_stages, tasks_until
from flywheel.workers.work import Failed, Step, Work, finished


def answer(context: RoundContext) -> None:
    """Sample N candidates for each kept task."""
    with open_stage(context, Stage.ANSWER, total=_candidates_in_all(context), unit="candidates") as stage:
        if stage is None:
            return
        last, n = number_of_chunks(context) - 1, context.config.sampling.n
        answered = _checked(context.workers.run(_to_answer(context, stage.done), Step.GENERATE), before=stage.done)
        for index, work in enumerate(answered, start=stage.done):
            stage.commit(_candidates(work, index, last=index == last))
            stage.progress.to(tasks_until(context, index) * n)


def score(context: RoundContext) -> None:
    """Score every candidate with the merged reward model."""
    with open_stage(context, Stage.SCORE, total=_candidates_in_all(context), unit="candidates") as stage:
        if stage is None:
            return
        last, n = number_of_chunks(context) - 1, context.config.sampling.n
        scored = _checked(context.workers.run(_to_score(context, stage.done), Step.SCORE), before=stage.done)
        for index, work in enumerate(scored, start=stage.done):
            stage.commit(_rewards(work, index, context.reward_model, last=index == last))
            stage.progress.to(tasks_until(context, index) * n)


def answer_and_score(context: RoundContext) -> None:
    """Both side by side, where a cluster has workers for both: a chunk is scored while the next ones are generated."""
    total = _candidates_in_all(context)
    with open_stages(context, Stage.ANSWER, Stage.SCORE, total=total, unit="candidates") as stages:
        if not stages:
            return
        answering, scoring = stages
        last, n = number_of_chunks(context) - 1, context.config.sampling.n
        waiting = itertools.islice(_to_score(context, scoring.done), answering.done - scoring.done)
        work = itertools.chain(waiting, _to_answer(context, answering.done))
        finished_work = _checked(context.workers.run(work, Step.GENERATE, Step.SCORE), before=scoring.done)
        for index, chunk in enumerate(finished_work, start=scoring.done):
            new = index >= answering.done
            seconds = scoring.elapsed / 2 if new else scoring.elapsed
            if new:
                answering.commit(_candidates(chunk, index, last=index == last), seconds=seconds)
            scoring.commit(_rewards(chunk, index, context.reward_model, last=index == last), seconds=seconds)
            scoring.progress.to(tasks_until(context, index) * n)


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


def _candidates_in_all(context: RoundContext) -> int:
    return context.config.instructions.tasks * context.config.sampling.n


def _to_answer(context: RoundContext, done: int) -> Iterator[Work]:
    """The kept tasks with their prompts, chunk by chunk after the first ``done``."""
    read = chunks(context, done, lambda attempts: context.store.tasks_of(context.name, attempts))
    for index, tasks in enumerate(read, start=done):
        prompts = [context.prompts.answer(task) for task in tasks]
        seed = derive(context.config.seed, context.name, "answer", index)
        yield Work(
            tasks=tasks,
            request=Request(prompts=prompts, n=context.config.sampling.n, sampling=sampling_of(context.config), seed=seed),
        )


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


def _candidates(work: Work | Failed, index: int, *, last: bool) -> Chunk[Candidate | FailedChunk]:
    if isinstance(work, Failed):
        return Chunk(rows=[FailedChunk(stage=Stage.ANSWER, chunk=index, error=work.error)], last=last)
    assert work.request is not None
    rows = [
        Candidate(
            task_id=task.task_id, candidate=place, output=completion.text.strip(), finish_reason=completion.finish_reason,
            tokens=completion.tokens, logprob=completion.logprob, seed=work.request.seed,
        )
        for task, group in zip(work.tasks, work.completions, strict=True)
        for place, completion in enumerate(group)
    ]  # fmt: skip
    return Chunk(rows=rows, last=last, tokens=sum(row.tokens for row in rows), prompt_tokens=prompt_tokens(work.completions))


def _rewards(work: Work | Failed, index: int, model_id: str, *, last: bool) -> Chunk[Score | FailedChunk]:
    if isinstance(work, Failed):
        return Chunk(rows=[FailedChunk(stage=Stage.SCORE, chunk=index, error=work.error)], last=last)
    groups = zip(work.tasks, work.completions, strict=True)
    places = [(task.task_id, place) for task, group in groups for place in range(len(group))]
    rows = [
        Score(task_id=task_id, candidate=place, model_id=model_id, score=score)
        for (task_id, place), score in zip(places, work.scores, strict=True)
    ]
    return Chunk(rows=rows, last=last)
