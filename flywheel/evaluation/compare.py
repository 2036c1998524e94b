"""Two rounds side by side: their held-out scores from the store, paired by task, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.config import EvaluationConfig
from flywheel.core.seeds import derive
from flywheel.core.statistics import Array
from flywheel.errors import StoreError
from flywheel.evaluation.diversity import output_diversity
from flywheel.evaluation.verdict import Evidence, Measured, Verdict, decide, doubts, gather, sentence
from flywheel.records import Round
from flywheel.store import evaluations
from flywheel.store.evaluations import HeldOut
from flywheel.store.store import Store

ENOUGH_OUTPUTS = 8000
"""Outputs whose words are looked at: of more tasks, fewer samples each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The verdict on a round against another, with its evidence."""

    verdict: Verdict
    evidence: Evidence

    @property
    def sentence(self) -> str:
        """The verdict in plain words."""
        return sentence(self.evidence, self.verdict)

    @property
    def doubts(self) -> list[str]:
        """What speaks against taking it for what it seems."""
        return list(doubts(self.evidence))

    def as_json(self) -> dict[str, Any]:
        """Plain values: ``verdict`` on top, the evidence below."""
        return {"verdict": str(self.verdict), "sentence": self.sentence, "doubts": self.doubts} | asdict(self.evidence)


def compare(store: Store, base: str, name: str, *, unfinished: bool = False) -> Comparison:
    """Compare two evaluated rounds; raises StoreError where they are not there or not comparable.

    ``unfinished`` allows a round whose evaluation is complete but whose end is not recorded yet.
    """
    if base == name:
        raise StoreError(f"{name} cannot be compared with itself; name two rounds")
    rounds = {one.round: one for one in store.rounds(controls=True)}
    before, after = (_evaluated(rounds, one, unfinished=unfinished) for one in (base, name))
    reason = incomparable(before, after)
    if reason:
        raise StoreError(reason)
    return compared(measure(store, before, after), settings(after))


def why_no_verdict(store: Store, name: str) -> str | None:
    """Why a round that is done was not compared with its parent; None where it has none, or could be compared."""
    rounds = {one.round: one for one in store.rounds(controls=True)}
    made = rounds[name]
    if made.parent not in rounds:
        return None
    try:
        compare(store, made.parent, name)
    except StoreError as error:
        return str(error)
    return None


def compared(figures: tuple[Measured, Measured], config: EvaluationConfig, *, confidence: float | None = None) -> Comparison:
    """The verdict on two rounds that were measured; ``confidence`` replaces that of the config."""
    before, after = figures
    evidence = gather(before, after, config, seed=derive("compare", before.name, after.name), confidence=confidence)
    return Comparison(verdict=decide(evidence), evidence=evidence)


def settings(made: Round) -> EvaluationConfig:
    """What a round's evaluation was set to."""
    return EvaluationConfig.model_validate(made.config["evaluation"])


def incomparable(before: Round, after: Round) -> str | None:
    """Why two rounds cannot be compared; None if they can."""
    for what, key, a, b in (
        ("held-out tasks", "evaluation.tasks", before.identity["digest.heldout"][:12], after.identity["digest.heldout"][:12]),
        ("reward models", "reward", before.reward_model, after.reward_model),
        ("judges", "evaluation.judge", before.judge, after.judge),
        ("numbers of samples", "evaluation.samples", _samples(before), _samples(after)),
    ):
        if a != b:
            return (
                f"{before.round} and {after.round} were evaluated with different {what} ({a} and {b}), so they cannot be "
                f"compared; leave {key} as it was, or begin a new workspace"
            )
    return None


def measure(store: Store, before: Round, after: Round) -> tuple[Measured, Measured]:
    """The held-out figures of two comparable rounds, over the tasks of which the judge says something in both."""
    reward = before.reward_model or ""
    names = evaluations.judges_of(store.path, after.round)
    others = [one for one in evaluations.judges_of(store.path, before.round) if one in names and one != before.judge]
    found = [evaluations.held_out(store.path, one.round, [before.judge, reward, *others]) for one in (before, after)]
    judged = [set(_known(one, before.judge)) & set(_known(one, reward)) for one in found]
    tasks = sorted(judged[0] & judged[1])
    if not tasks:
        raise StoreError(
            f"the judge gave no number for any task of both {before.round} and {after.round}; there is nothing to compare"
        )
    return tuple(  # type: ignore[return-value]
        _measured(one.round, rows, tasks, judge=before.judge, reward=reward, others={id_: names[id_] for id_ in others})
        for one, rows in zip((before, after), found, strict=True)
    )


def _known(rows: HeldOut, model_id: str) -> Iterator[str]:
    return (task for task, score in zip(rows.task_ids, rows.scores[model_id], strict=True) if not np.isnan(score))


def _measured(
    name: str, rows: HeldOut, tasks: Sequence[str], *, judge: str, reward: str, others: Mapping[str, str]
) -> Measured:
    places = {task: place for place, task in enumerate(tasks)}
    place = np.array([places.get(task, -1) for task in rows.task_ids])
    kept = place >= 0
    place = place[kept]

    def mean(values: Array) -> Array:
        """Of each task's samples; those that are ``nan`` are left out."""
        return _sums(place, values[kept], len(tasks)) / _sums(place, np.ones_like(values[kept]), len(tasks), of=values[kept])

    judged, length = rows.scores[judge], np.log1p(rows.tokens)
    known = np.where(np.isnan(judged), np.nan, length)
    length_off, judge_off = known[kept] - mean(known)[place], judged[kept] - mean(judged)[place]
    return Measured(
        name=name,
        judge=mean(judged),
        reward=mean(rows.scores[reward]),
        stop=mean(rows.stop),
        tokens=mean(rows.tokens),
        diversity=mean(output_diversity_of(rows)),
        length=mean(length),
        length_judge=_sums(place, length_off * judge_off, len(tasks)),
        length_length=_sums(place, length_off**2, len(tasks)),
        others={called: mean(rows.scores[model_id]) for model_id, called in others.items()},
    )


def _sums(place: NDArray[np.int_], values: Array, size: int, *, of: Array | None = None) -> Array:
    """Sums by task; values that are ``nan`` (or where ``of`` is) count nothing, and a task without any has ``nan``."""
    known = ~np.isnan(values if of is None else of)
    sums = np.bincount(place[known], weights=values[known], minlength=size).astype(float)
    sums[np.bincount(place[known], minlength=size) == 0] = np.nan
    return sums


def task_means(rows: HeldOut, values: Array) -> Array:
    """The mean of each task's samples, in the order of the task ids; tasks without a number are left out."""
    known = ~np.isnan(values)
    _, place = np.unique(np.array(rows.task_ids)[known], return_inverse=True)
    return np.asarray(np.bincount(place, weights=values[known]) / np.bincount(place))


def output_diversity_of(rows: HeldOut) -> Array:
    """`output_diversity` of every output among those of the same sample number; ``nan`` where that many are not needed."""
    found = np.full(len(rows.outputs), np.nan)
    numbers = np.unique(rows.candidates)
    for sample in numbers[: max(1, ENOUGH_OUTPUTS // max(1, len(rows.outputs) // len(numbers)))] if len(numbers) else ():
        of_sample = np.flatnonzero(rows.candidates == sample)
        found[of_sample] = output_diversity([rows.outputs[row] for row in of_sample])
    return found


def _samples(evaluated: Round) -> int:
    return int(evaluated.config["evaluation"]["samples"])


def _evaluated(rounds: Mapping[str, Round], name: str, *, unfinished: bool) -> Round:
    found = rounds.get(name)
    if found is None:
        known = ", ".join(rounds) or "none yet"
        raise StoreError(f"no round {name!r}; there are {known}")
    if found.status != "done" and not unfinished:
        raise StoreError(f"{name} is not finished (it is {found.status}); continue it with `flywheel round`")
    return found
