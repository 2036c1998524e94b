"""The end of a round: its figures on the held-out tasks, and its verdict against its parent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from flywheel.core.seeds import derive
from flywheel.core.statistics import bootstrap_mean
from flywheel.evaluation.compare import compare, incomparable, output_diversity_of, task_means
from flywheel.records import Metric
from flywheel.round.context import RoundContext
from flywheel.store import evaluations


def conclude(context: RoundContext) -> None:
    """Record the round's figures and verdict, and mark it as done."""
    store, name, judge = context.store, context.name, context.round.judge
    judges = evaluations.judges_of(store.path, name)
    rows = evaluations.held_out(store.path, name, [*judges, context.reward_model])
    figures = {
        "heldout.judge": rows.scores.get(judge),
        "heldout.reward": rows.scores[context.reward_model],
        "heldout.finish_rate": rows.stop,
        "heldout.tokens": rows.tokens,
        "heldout.diversity": output_diversity_of(rows),
    }
    figures |= {f"heldout.judge.{label}": rows.scores[model_id] for model_id, label in judges.items() if model_id != judge}
    metrics = [
        mean_metric(context, metric, means)
        for metric, values in figures.items()
        if values is not None and (means := task_means(rows, values)).size
    ]
    verdict = None
    parent = next((earlier for earlier in store.rounds() if earlier.round == context.round.parent), None)
    judged = any(metric.name == "heldout.judge" for metric in metrics)
    if parent and judged and not incomparable(parent, context.round):
        comparison = compare(store, parent.round, name, unfinished=True)
        verdict = (parent.round, str(comparison.verdict), comparison.as_json())
    store.finish_round(name, metrics, verdict)


def mean_metric(context: RoundContext, name: str, values: Sequence[float] | np.ndarray) -> Metric:
    """The mean of one value per task, with its bootstrap interval."""
    config = context.config.evaluation
    estimate = bootstrap_mean(
        np.asarray(values, dtype=float),
        confidence=config.confidence, resamples=config.resamples, seed=derive(name, context.name),
    )  # fmt: skip
    return Metric(name=name, **asdict(estimate))
