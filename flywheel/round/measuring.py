"""The stages of a round that measure: candidates judged, held-out outputs scored, and the verdict.

Nothing here selects or trains. Judges that cost money are asked of held-out outputs only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from flywheel.core.progress import Counter
from flywheel.core.seeds import derive
from flywheel.core.statistics import bootstrap_mean, interval, resampled_means
from flywheel.engines.contract import Sampling
from flywheel.engines.generator import ENDPOINT
from flywheel.evaluation.compare import compare, incomparable, output_diversity_of, task_means
from flywheel.evaluation.function_judge import ask
from flywheel.evaluation.held_out import evaluate
from flywheel.evaluation.judges import judge_models, load_judge_of
from flywheel.instructions.prompt_style import load_prompts
from flywheel.records import Chunk, Judge, Metric, Model, Score, Task
from flywheel.reward.text import Answer
from flywheel.round.stages import Run
from flywheel.store import evaluations


def load_judges(run: Run, stack: ExitStack, *, free_only: bool = False) -> dict[str, Judge]:
    """The judges of a run by model id, the deciding one first; ``stack`` closes what they hold open."""
    config, store = run.config, run.workspace.store
    opponents = {} if run.round.number == 0 else evaluations.outputs_by_task(store.path, "r0")
    models = judge_models(config)
    found: dict[str, Judge] = {}
    for model, (name, judge) in zip(models, config.evaluation.all_judges.items(), strict=True):
        if free_only and not judge.is_free:
            continue
        loaded = load_judge_of(config, name, judge, opponents, run.budget.metered)
        stack.callback(getattr(loaded, "close", lambda: None))
        found[model.model_id] = partial(ask, loaded, judge.function or name)
    return found


def judge_candidates(run: Run, done: int, counter: Counter) -> Iterator[Chunk[Score]]:
    """What the judges say of every candidate of some tasks."""
    size, most = run.config.engine.chunk, run.config.evaluation.curve_tasks
    spans = run.workspace.store.spans(run.round.round, size)[: math.ceil(most / size)]
    with ExitStack() as stack:
        judges = load_judges(run, stack, free_only=True)
        for index, attempts in enumerate(spans):
            if index < done:
                continue
            asked = run.answered(attempts)[: most - index * size]
            rows = [(task, one) for task, candidates in asked for one in candidates]
            texts = [(task, one.output) for task, one in rows]
            scores = [
                Score(task_id=one.task_id, candidate=one.candidate, model_id=model_id, score=number)
                for model_id, judge in judges.items()
                for (_, one), number in zip(rows, judge(texts), strict=True)
                if number is not None
            ]
            yield Chunk(rows=scores, last=index == len(spans) - 1)
            counter.to(index * size + len(asked))


def evaluate_generator(run: Run, done: int, counter: Counter) -> Iterator[Chunk[Any]]:
    """Held-out outputs of the trained generator, scored by the reward model and by the judges; then the references."""
    config, sampling, store = run.config.evaluation, run.config.sampling, run.workspace.store
    recorded = next(one for one in store.rounds(controls=True) if one.round == run.round.round)
    assert recorded.generator_out is not None
    model = store.model(recorded.generator_out)
    size, tasks = run.config.engine.chunk, [one.task for one in run.held_out]
    chunks = math.ceil(len(tasks) / size)
    with ExitStack() as stack:
        judges = load_judges(run, stack)
        if done < chunks:
            with closing(run.workers_on(model)) as workers:
                for index, chunk in enumerate(
                    evaluate(
                        workers,
                        judges,
                        load_prompts(run.config, run.workspace, model),
                        tasks,
                        samples=config.samples,
                        sampling=Sampling(
                            temperature=sampling.temperature, top_p=sampling.top_p, max_tokens=sampling.max_tokens
                        ),
                        seed=run.config.seed,
                        scorer_id=run.reward_model,
                        chunk=size,
                        done=done,
                    ),
                    start=done,
                ):
                    yield chunk
                    counter.to(min((index + 1) * size, len(tasks)) * config.samples)
        # The generator has given its memory back.
        yield Chunk(rows=[], metrics=_references(run, model, judges), last=True)


def _references(run: Run, model: Model, judges: Mapping[str, Judge]) -> list[Metric]:
    """How likely the generator finds the reference answers, and what reward model and judge give them."""
    known = [(one.task, one.reference) for one in run.held_out if one.reference is not None]
    if not known:
        return []
    rewards = run.scorer.score([Answer(task=task, output=text) for task, text in known])
    found = [_mean(run, "heldout.reference.reward", rewards)]
    config = next(iter(run.config.evaluation.all_judges.values()))
    if config.is_free:
        judged = [one for one in judges[run.round.judge](known) if one is not None]
        found += [_mean(run, "heldout.reference.judge", judged)] if judged else []
    if not model.path.startswith(ENDPOINT):
        found += _perplexity(run, model, known)
    return found


def _perplexity(run: Run, model: Model, known: Sequence[tuple[Task, str]]) -> list[Metric]:
    """exp of the mean loss of a token of the references, with its interval over tasks."""
    from flywheel.engines.likelihood import answer_losses
    from flywheel.engines.machine import device

    prompts = load_prompts(run.config, run.workspace, model)
    losses = answer_losses(
        run.workspace.locate(model),
        [(prompts.answer(task), prompts.output(text)) for task, text in known],
        device=device(run.config.engine),
        trust_remote_code=run.config.engine.trust_remote_code,
    )
    columns = np.array([one for one in losses if one is not None], dtype=float)
    if not len(columns):
        return []
    settings = run.config.evaluation
    drawn = resampled_means(columns, resamples=settings.resamples, seed=derive("heldout.perplexity", run.round.round))
    nats, tokens = columns.mean(axis=0)
    estimate = interval(float(nats / tokens), drawn[:, 0] / drawn[:, 1], rows=len(columns), confidence=settings.confidence)
    return [
        Metric(
            name="heldout.perplexity", value=math.exp(estimate.value), low=math.exp(estimate.low), high=math.exp(estimate.high)
        )
    ]


def _mean(run: Run, name: str, values: Sequence[float] | np.ndarray) -> Metric:
    config = run.config.evaluation
    estimate = bootstrap_mean(
        np.asarray(values, dtype=float),
        confidence=config.confidence, resamples=config.resamples, seed=derive(name, run.round.round),
    )  # fmt: skip
    return Metric(name=name, **asdict(estimate))


def conclude(run: Run) -> None:
    """Record the round's figures and its verdict against its parent."""
    store, name = run.workspace.store, run.round.round
    judges = evaluations.judges_of(store.path, name)
    rows = evaluations.held_out(store.path, name, [*judges, run.reward_model])
    figures = {
        "heldout.judge": rows.scores.get(run.round.judge),
        "heldout.reward": rows.scores[run.reward_model],
        "heldout.finish_rate": rows.stop,
        "heldout.tokens": rows.tokens,
        "heldout.diversity": output_diversity_of(rows),
    }
    figures |= {f"heldout.judge.{called}": rows.scores[one] for one, called in judges.items() if one != run.round.judge}
    metrics = [
        _mean(run, metric, means)
        for metric, values in figures.items()
        if values is not None and (means := task_means(rows, values)).size
    ]
    verdict = None
    parent = next((one for one in store.rounds() if one.round == run.round.parent), None)
    judged = any(one.name == "heldout.judge" for one in metrics)
    if parent and judged and not incomparable(parent, run.round):
        comparison = compare(store, parent.round, name, unfinished=True)
        verdict = (parent.round, str(comparison.verdict), comparison.as_json())
    store.finish_round(name, metrics, verdict)
