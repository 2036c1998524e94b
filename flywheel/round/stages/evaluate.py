"""Evaluate: held-out outputs of the trained generator, scored by the reward model and by the judges; then the references."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing

import numpy as np

from flywheel.core.seeds import derive
from flywheel.core.statistics import interval, resampled_means
from flywheel.engines.contract import prompt_tokens
from flywheel.engines.generator import ENDPOINT
from flywheel.instructions.prompts import load_prompts
from flywheel.records import Candidate, Chunk, Judge, Metric, Model, Score, Stage, Task
from flywheel.reward.text import Answer
from flywheel.round.context import RoundContext
from flywheel.round.stage import open_stage
from flywheel.round.stages.judge import load_judges
from flywheel.round.verdict import mean_metric
from flywheel.round.work import answering_work, candidates_of, scores_of
from flywheel.workers.work import Step, Work, finished


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
        starts = range(stage.done * size, len(tasks), size)
        if starts:
            prompts = load_prompts(context.config, context.workspace, model)
            # The seed does not depend on the round: every generator is measured with the same random numbers.
            chunks = (
                answering_work(
                    context.config, prompts, tasks[start : start + size],
                    n=config.samples, seed=derive(context.config.seed, "evaluate", start // size),
                )
                for start in starts
            )  # fmt: skip
            with closing(context.workers_for(model)) as workers:
                for start, work in zip(starts, workers.run(chunks, Step.GENERATE, Step.SCORE), strict=True):
                    stage.commit(_judged(context, finished(work), judges))
                    stage.progress.to(min(start + size, len(tasks)) * config.samples)
        # The generator has freed its memory by now.
        stage.commit(Chunk(rows=[], metrics=_references(context, model, judges), last=True))


def _trained(context: RoundContext) -> Model:
    """The generator that this round has trained; the record in the context is older than the training."""
    recorded = next(row for row in context.store.rounds(controls=True) if row.round == context.name)
    assert recorded.generator_out is not None
    return context.store.model(recorded.generator_out)


def _judged(context: RoundContext, work: Work, judges: Mapping[str, Judge]) -> Chunk[Candidate | Score]:
    """The outputs of a chunk with the scores of the reward model and of the judges, which are by model id."""
    texts = [(task, completion.text) for task, group in zip(work.tasks, work.completions, strict=True) for completion in group]
    outputs = candidates_of(work)
    places = [(output.task_id, output.candidate) for output in outputs]
    scores = scores_of(places, context.reward_model, work.scores)
    for model_id, judge in judges.items():
        scores += scores_of(places, model_id, judge(texts))
    tokens = sum(output.tokens for output in outputs)
    return Chunk(rows=[*outputs, *scores], last=False, tokens=tokens, prompt_tokens=prompt_tokens(work.completions))


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
