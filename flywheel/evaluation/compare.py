"""Two rounds side by side: their held-out scores from the store, paired by task, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from flywheel.config import EvaluationConfig
from flywheel.core.seeds import derive
from flywheel.core.statistics import Array
from flywheel.errors import StoreError
from flywheel.evaluation.diversity import output_diversity
from flywheel.evaluation.evidence import Lengths, Measured, gather
from flywheel.evaluation.verdict import Comparison
from flywheel.records import Round
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
        raise StoreError(f"{name} cannot be compared with itself", "Name two different rounds.")
    rounds = {row.round: row for row in store.rounds(controls=True)}
    before, after = (_evaluated(rounds, round_, unfinished=unfinished) for round_ in (base, name))
    if error := incomparable(before, after):
        raise error
    return compare_measured(*measure(store, before, after), settings(after))


def why_no_verdict(store: Store, name: str) -> str | None:
    """Why a finished round was not compared with its parent; None where it has no parent, or could be compared."""
    parent = next(row.parent for row in store.rounds(controls=True) if row.round == name)
    if parent is None:
        return None
    try:
        compare(store, parent, name)
    except StoreError as error:
        return str(error)
    return None


def compare_measured(
    before: Measured, after: Measured, config: EvaluationConfig, *, confidence: float | None = None
) -> Comparison:
    """The verdict on two measured rounds; ``confidence`` replaces the config's."""
    return Comparison(gather(before, after, config, seed=derive("compare", before.name, after.name), confidence=confidence))


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
                f"Set `{key}` back to what it was, or start a new workspace.",
            )
    return None


def measure(store: Store, before: Round, after: Round) -> tuple[Measured, Measured]:
    """The held-out figures of two comparable rounds, over the tasks that both judge and reward model scored in both."""
    reward, names = before.reward_model or "", evaluations.judges_of(store.path, after.round)
    judges = evaluations.judges_of(store.path, before.round)
    others = {judge: names[judge] for judge in judges if judge in names and judge != before.judge}
    left, right = (
        evaluations.held_out(store.path, round_.round, [before.judge, reward, *others]) for round_ in (before, after)
    )
    tasks = sorted(set.intersection(*(_scored(rows, model) for rows in (left, right) for model in (before.judge, reward))))
    if not tasks:
        raise StoreError(
            f"the judge scored no task of both {before.round} and {after.round}",
            "Check that the judge returns numbers for the held-out tasks.",
        )
    return (
        _measured(before.round, left, tasks, judge=before.judge, reward=reward, others=others),
        _measured(after.round, right, tasks, judge=before.judge, reward=reward, others=others),
    )


def _scored(rows: HeldOut, model_id: str) -> set[str]:
    return {task for task, score in zip(rows.task_ids, rows.scores[model_id], strict=True) if not np.isnan(score)}


def _measured(
    name: str, rows: HeldOut, tasks: Sequence[str], *, judge: str, reward: str, others: Mapping[str, str]
) -> Measured:
    """Means of each task's samples; samples without a score are left out."""
    places = {task: place for place, task in enumerate(tasks)}
    place = np.array([places.get(task, -1) for task in rows.task_ids])
    kept = place >= 0
    place = place[kept]

    def mean(values: Array) -> Array:
        return _means(place, values[kept], len(tasks))

    score, length = rows.scores[judge], np.log1p(rows.tokens)
    scored = np.where(np.isnan(score), np.nan, length)
    length_off, score_off = scored[kept] - mean(scored)[place], score[kept] - mean(score)[place]
    return Measured(
        name=name,
        judge=mean(score),
        reward=mean(rows.scores[reward]),
        finish_rate=mean(rows.stop),
        tokens=mean(rows.tokens),
        diversity=mean(output_diversity_of(rows)),
        lengths=Lengths(
            mean=mean(length),
            products=_sums(place, length_off * score_off, len(tasks))[0],
            squares=_sums(place, length_off**2, len(tasks))[0],
        ),
        others={other: mean(rows.scores[model_id]) for model_id, other in others.items()},
    )


def _sums(place: NDArray[np.int_], values: Array, size: int) -> tuple[Array, NDArray[np.int_]]:
    """Sums and numbers of the values of each task, without those that are ``nan``."""
    known = ~np.isnan(values)
    return np.bincount(place[known], values[known], size).astype(float), np.bincount(place[known], minlength=size)


def _means(place: NDArray[np.int_], values: Array, size: int) -> Array:
    """Means of the values of each task; ``nan`` for a task without any."""
    sums, counts = _sums(place, values, size)
    return np.asarray(sums / np.where(counts == 0, np.nan, counts))


def task_means(rows: HeldOut, values: Array) -> Array:
    """The mean of each task's samples, in the order of the task ids; tasks without a number are left out."""
    tasks, place = np.unique(np.array(rows.task_ids), return_inverse=True)
    means = _means(place, values, len(tasks))
    return np.asarray(means[~np.isnan(means)])


def output_diversity_of(rows: HeldOut) -> Array:
    """`output_diversity` of every output among those of the same sample number; ``nan`` for samples that are not measured."""
    diversity = np.full(len(rows.outputs), np.nan)
    samples = np.unique(rows.candidates)
    tasks = max(1, len(rows.outputs) // max(1, len(samples)))
    for sample in samples[: max(1, DIVERSITY_OUTPUTS // tasks)]:
        places = np.flatnonzero(rows.candidates == sample)
        diversity[places] = output_diversity([rows.outputs[place] for place in places])
    return diversity


def _evaluated(rounds: Mapping[str, Round], name: str, *, unfinished: bool) -> Round:
    if name not in rounds:
        raise StoreError(f"round {name!r} not found", f"Available rounds: {', '.join(rounds) or 'none yet'}.")
    if rounds[name].status != "done" and not unfinished:
        raise StoreError(f"{name} is not finished (it is {rounds[name].status})", "Run `flywheel round` to resume it.")
    return rounds[name]
