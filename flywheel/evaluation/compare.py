"""Two rounds side by side: their held-out scores from the store, paired by task, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from flywheel.config import EvaluationConfig
from flywheel.core.statistics import Array
from flywheel.errors import StoreError
from flywheel.evaluation.diversity import output_diversity
from flywheel.evaluation.evidence import Measured, gather
from flywheel.evaluation.verdict import Comparison
from flywheel.records import Policy, Round
from flywheel.store import evaluations
from flywheel.store.evaluations import HeldOut
from flywheel.store.store import Store

DIVERSITY_OUTPUTS = 8000
"""Outputs that output diversity is measured on: with more tasks, fewer samples of each."""


def compare(store: Store, base: str, name: str, *, unfinished: bool = False) -> Comparison:
    """Compare two evaluated rounds; raises StoreError where one does not exist or they are not comparable.

    ``unfinished`` allows a round whose evaluation is complete but whose end is not recorded yet.
    """
    if base == name:
        raise StoreError(f"round {name!r} cannot be compared with itself", "Pass two different rounds.")
    rounds = {row.round: row for row in store.rounds(controls=True)}
    for wanted in (base, name):
        if wanted not in rounds:
            raise StoreError(f"round {wanted!r} not found", f"Available rounds: {', '.join(rounds) or 'none yet'}.")
        if rounds[wanted].status != "done" and not unfinished:
            status = f"round {wanted!r} is not finished: its status is {rounds[wanted].status!r}"
            control = f" --control {policy}" if (policy := rounds[wanted].policy) != Policy.BEST else ""
            raise StoreError(status, f"Run `flywheel round{control}` to resume it.")
    before, after = rounds[base], rounds[name]
    if error := incomparable(before, after):
        raise error
    return Comparison(gather(*measure(store, before, after), settings(after)))


def why_no_verdict(store: Store, base: str, name: str) -> str | None:
    """Why two rounds have no verdict; None where they have one."""
    try:
        compare(store, base, name)
    except StoreError as error:
        return str(error)
    return None


def settings(round_: Round) -> EvaluationConfig:
    """The evaluation section of a round's config."""
    return EvaluationConfig.model_validate(round_.config["evaluation"])


def incomparable(before: Round, after: Round) -> StoreError | None:
    """Why two rounds cannot be compared; None if they can."""
    for what, key, left, right in (
        ("held-out tasks", "evaluation.tasks", before.identity["digest.heldout"][:12], after.identity["digest.heldout"][:12]),
        ("reward models", "reward", before.reward_model, after.reward_model),
        ("judges", "evaluation.judge", before.judge, after.judge),
        ("numbers of samples", "evaluation.samples", settings(before).samples, settings(after).samples),
    ):
        if left != right:
            return StoreError(
                f"{before.round} and {after.round} were evaluated with different {what} ({left} and {right})",
                f"Compare rounds that share them, or restore the earlier `{key}` before the next round.",
            )
    return None


def measure(store: Store, before: Round, after: Round) -> tuple[Measured, Measured]:
    """The held-out figures of two comparable rounds, over the tasks that both judge and reward model scored in both."""
    judge, reward = before.judge, before.reward_model or ""
    judges, names = (evaluations.judges_of(store.path, round_.round) for round_ in (before, after))
    others = {model_id: names[model_id] for model_id in judges if model_id in names and model_id != judge}
    left, right = (evaluations.held_out(store.path, round_.round, [judge, reward, *others]) for round_ in (before, after))
    scored = (
        np.asarray(rows.task_ids)[~np.isnan(rows.scores[model_id])] for rows in (left, right) for model_id in (judge, reward)
    )
    tasks = sorted(set.intersection(*map(set, scored)))
    if not tasks:
        raise StoreError(
            f"no held-out task has both a judge's score and a reward in {before.round} and {after.round}",
            "Check that the judge returns numbers for the held-out tasks.",
        )
    return _measured(before, left, tasks, others), _measured(after, right, tasks, others)


def _measured(round_: Round, rows: HeldOut, tasks: Sequence[str], others: Mapping[str, str]) -> Measured:
    """Means of each task's samples; samples without a score are left out."""
    task_ids, place = np.unique(rows.task_ids, return_inverse=True)
    kept = np.searchsorted(task_ids, tasks)

    def mean(values: Array) -> Array:
        return _means(place, values)[kept]

    def deviations(values: Array) -> Array:
        return values - _means(place, values)[place]

    scores, length = rows.scores[round_.judge], np.log1p(rows.tokens)
    length_off, score_off = deviations(np.where(np.isnan(scores), np.nan, length)), deviations(scores)
    return Measured(
        name=round_.round,
        judge=mean(scores),
        reward=mean(rows.scores[round_.reward_model or ""]),
        finish_rate=mean(rows.stop),
        tokens=mean(rows.tokens),
        diversity=mean(output_diversity_of(rows)),
        length=mean(length),
        products=_sums(place, length_off * score_off)[kept],
        squares=_sums(place, length_off**2)[kept],
        others={other: mean(rows.scores[model_id]) for model_id, other in others.items()},
    )


def _sums(place: NDArray[np.int_], values: Array) -> Array:
    """Sums of the values of each task, without those that are ``nan``."""
    return np.bincount(place, np.nan_to_num(values)).astype(float)


def _means(place: NDArray[np.int_], values: Array) -> Array:
    """Means of the values of each task; ``nan`` for a task without any."""
    counts = np.bincount(place, ~np.isnan(values))
    return np.asarray(_sums(place, values) / np.where(counts == 0, np.nan, counts))


def task_means(rows: HeldOut, values: Array) -> Array:
    """The mean of each task's samples, in the order of the task ids; tasks without a number are left out."""
    means = _means(np.unique(rows.task_ids, return_inverse=True)[1], values)
    return means[~np.isnan(means)]


def output_diversity_of(rows: HeldOut) -> Array:
    """`output_diversity` of every output among those of the same sample number; ``nan`` for samples that are not measured."""
    diversity = np.full(len(rows.outputs), np.nan)
    samples = np.unique(rows.candidates)
    for sample in samples[: max(1, DIVERSITY_OUTPUTS * len(samples) // max(1, len(rows.outputs)))]:
        places = np.flatnonzero(rows.candidates == sample)
        diversity[places] = output_diversity([rows.outputs[place] for place in places])
    return diversity
