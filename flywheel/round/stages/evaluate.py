"""Evaluate: held-out outputs of the trained generator, scored by the reward model and by the judges; then the references."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing

import numpy as np

from flywheel.core.seeds import derive
from flywheel.core.statistics import interval, resampled_means
from flywheel.engines.generator import ENDPOINT, sampling_of
from flywheel.evaluation.held_out import evaluate as evaluate_tasks
from flywheel.instructions.prompt_style import load_prompts
from flywheel.records import Chunk, Judge, Metric, Model, Stage, Task
from flywheel.reward.text import Answer
from flywheel.round.context import RoundContext
from flywheel.round.stage import open_stage
from flywheel.round.stages.judge import load_judges
from flywheel.round.verdict import mean_metric


def evaluate(context: RoundContext) -> None:
    """Sample and score every held-out task; the last chunk carries the figures of the reference answers."""
    config = context.config.evaluation
    total = len(context.held_out) * config.samples
    with open_stage(context, Stage.EVALUATE, total=total, unit="samples") as stage, ExitStack() as stack:
        if stage is None:
            return
        model = _trained(context)
        size, tasks = context.config.engine.chunk, [held_out.task for held_out in context.held_out]
        judges = load_judges(context, stack)
        if stage.done < math.ceil(len(tasks) / size):
            with closing(context.workers_for(model)) as workers:
                for index, chunk in enumerate(
                    evaluate_tasks(
                        workers,
                        judges,
                        load_prompts(context.config, context.workspace, model),
                        tasks,
                        samples=config.samples,
                        sampling=sampling_of(context.config),
                        seed=context.config.seed,
                        scorer_id=context.reward_model,
                        chunk=size,
                        done=stage.done,
                    ),
                    start=stage.done,
                ):
                    stage.commit(chunk)
                    stage.progress.to(min((index + 1) * size, len(tasks)) * config.samples)
        # The generator has freed its memory by now.
        stage.commit(Chunk(rows=[], metrics=_references(context, model, judges), last=True))


def _trained(context: RoundContext) -> Model:
    """The generator that this round has trained; the record in the context is older than the training."""
    recorded = next(row for row in context.store.rounds(controls=True) if row.round == context.name)
    assert recorded.generator_out is not None
    return context.store.model(recorded.generator_out)


def _references(context: RoundContext, model: Model, judges: Mapping[str, Judge]) -> list[Metric]:
    """The perplexity of the reference answers, and what reward model and judge give them."""
    known = [(held_out.task, held_out.reference) for held_out in context.held_out if held_out.reference is not None]
    if not known:
        return []
    rewards = context.scorer.score_answers([Answer(task=task, output=text) for task, text in known])
    metrics = [mean_metric(context, "heldout.reference.reward", rewards)]
    deciding = next(iter(context.config.evaluation.all_judges.values()))
    if deciding.is_free:
        judged = [score for score in judges[context.round.judge](known) if score is not None]
        metrics += [mean_metric(context, "heldout.reference.judge", judged)] if judged else []
    if not model.path.startswith(ENDPOINT):
        metrics += _perplexity(context, model, known)
    return metrics


def _perplexity(context: RoundContext, model: Model, known: Sequence[tuple[Task, str]]) -> list[Metric]:
    """exp of the mean loss per token of the references, with its interval over tasks."""
    from flywheel.engines.likelihood import answer_losses
    from flywheel.engines.machine import device

    prompts = load_prompts(context.config, context.workspace, model)
    losses = answer_losses(
        context.workspace.locate(model),
        [(prompts.answer(task), prompts.output(text)) for task, text in known],
        device=device(context.config.engine),
        trust_remote_code=context.config.engine.trust_remote_code,
    )
    columns = np.array([loss for loss in losses if loss is not None], dtype=float)
    if not len(columns):
        return []
    settings = context.config.evaluation
    drawn = resampled_means(columns, resamples=settings.resamples, seed=derive("heldout.perplexity", context.name))
    nats, tokens = columns.mean(axis=0)
    loss = interval(float(nats / tokens), drawn[:, 0] / drawn[:, 1], rows=len(columns), confidence=settings.confidence)
    return [Metric(name="heldout.perplexity", value=math.exp(loss.value), low=math.exp(loss.low), high=math.exp(loss.high))]
