"""Evaluate: k samples for each held-out task, scored by the reward model and by the judges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from flywheel.core.seeds import derive
from flywheel.engines.contract import Request, Sampling, prompt_tokens
from flywheel.instructions.prompts import Prompts
from flywheel.records import Candidate, Chunk, Judge, Score, Task
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
) -> Iterator[Chunk[Candidate | Score]]:
    """Sample and score the held-out tasks, from chunk ``done`` on; ``judges`` are by model id. None of the chunks is the last.

    The seed must not depend on the round: every generator is measured with the same random numbers.
    """
    chunks = (
        Work(
            tasks=tasks[start : start + chunk],
            request=Request(
                prompts=[prompts.answer(task) for task in tasks[start : start + chunk]],
                n=samples, sampling=sampling, seed=derive(seed, "evaluate", start // chunk),
            ),
        )
        for start in range(done * chunk, len(tasks), chunk)
    )  # fmt: skip
    for work in map(finished, workers.run(chunks, Step.GENERATE, Step.SCORE)):
        assert work.request is not None
        texts = [
            (task, completion.text) for task, group in zip(work.tasks, work.completions, strict=True) for completion in group
        ]
        outputs = [
            Candidate(
                task_id=task.task_id, candidate=number, output=completion.text, finish_reason=completion.finish_reason,
                tokens=completion.tokens, logprob=completion.logprob, seed=work.request.seed,
            )
            for task, group in zip(work.tasks, work.completions, strict=True)
            for number, completion in enumerate(group)
        ]  # fmt: skip
        given = {scorer_id: work.scores} | {model_id: judge(texts) for model_id, judge in judges.items()}
        scores = [
            Score(task_id=output.task_id, candidate=output.candidate, model_id=model_id, score=float(score))
            for model_id, values in given.items()
            for output, score in zip(outputs, values, strict=True)
            if score is not None
        ]
        tokens = sum(output.tokens for output in outputs)
        yield Chunk(rows=[*outputs, *scores], last=False, tokens=tokens, prompt_tokens=prompt_tokens(work.completions))
