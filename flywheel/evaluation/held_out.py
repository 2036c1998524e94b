"""Evaluate: k samples for each held-out task, scored by the reward model and by the judges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from flywheel.core.seeds import derive
from flywheel.engines.contract import Request, Sampling, prompt_tokens
from flywheel.instructions.prompts import Prompts
from flywheel.records import Chunk, Judge, Sample, SampleScore, Task
from flywheel.workers.work import Step, Work, Workers, finished


def evaluate(
    workers: Workers,
    judges: Mapping[str, Judge],
    prompts: Prompts,
    tasks: Sequence[Task],
    *,
    samples: int,
    sampling: Sampling,
    seed: int,
    scorer_id: str,
    chunk: int,
    done: int,
) -> Iterator[Chunk[Sample | SampleScore]]:
    """Sample and score the held-out tasks, from chunk ``done`` on; ``judges`` are by model id. None of the chunks is the last.

    The seed must not depend on the round: every generator is measured with the same random numbers.
    """
    starts = range(done * chunk, len(tasks), chunk)
    asked = (
        Work(
            tasks=tasks[start : start + chunk],
            request=Request(
                prompts=[prompts.answer(task) for task in tasks[start : start + chunk]],
                n=samples, sampling=sampling, seed=derive(seed, "evaluate", start // chunk),
            ),
        )
        for start in starts
    )  # fmt: skip
    for work in map(finished, workers.run(asked, Step.GENERATE, Step.SCORE)):
        assert work.request is not None
        chunk_seed, rewards = work.request.seed, work.scores
        rows = [
            (task, number, one)
            for task, group in zip(work.tasks, work.completions, strict=True)
            for number, one in enumerate(group)
        ]
        texts = [(task, one.text) for task, _, one in rows]
        given: dict[str, Sequence[float | None]] = {scorer_id: rewards}
        given |= {model_id: judge(texts) for model_id, judge in judges.items()}
        outputs = [
            Sample(
                task_id=task.task_id, sample=number, output=one.text, finish_reason=one.finish_reason,
                tokens=one.tokens, logprob=one.logprob, seed=chunk_seed,
            )
            for task, number, one in rows
        ]  # fmt: skip
        scores = [
            SampleScore(task_id=row.task_id, sample=row.sample, model_id=model_id, score=float(score))
            for model_id, values in given.items()
            for row, score in zip(outputs, values, strict=True)
            if score is not None
        ]
        yield Chunk(
            rows=[*outputs, *scores],
            last=False,
            tokens=sum(row.tokens for row in outputs),
            prompt_tokens=prompt_tokens(work.completions),
        )
