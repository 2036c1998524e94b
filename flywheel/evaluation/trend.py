"""Every turn of the wheel against the one before and against the first, corrected for having looked so often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.core.statistics import difference_p, holm
from flywheel.evaluation.compare import Comparison, compared, incomparable, measure, settings
from flywheel.records import Round
from flywheel.store import evaluations
from flywheel.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One comparison of a chain."""

    base: str
    round: str
    comparison: Comparison
    """At the confidence that Holm's procedure leaves for it: claims hold for the whole chain at once."""
    p: float
    """Adjusted p-value of no difference of the judge."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"base": self.base, "round": self.round, "p": self.p} | self.comparison.as_json()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """All turns of the wheel that are done."""

    rounds: tuple[str, ...]
    against_parent: tuple[Step, ...]
    against_first: tuple[Step, ...]
    against_control: tuple[Step, ...]
    """Rounds against the generators that were trained on other picks of the same candidates."""
    best: str | None
    """The round whose generator the judge likes best; the earlier of two that are equal."""
    skipped: tuple[str, ...]
    """Why pairs of rounds were left out."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        chains = {
            name: [step.as_json() for step in getattr(self, name)]
            for name in ("against_parent", "against_first", "against_control")
        }
        return {"rounds": self.rounds, "best": self.best} | chains | {"skipped": self.skipped}


def trend(store: Store) -> Trend:
    """Compare all evaluated rounds, each chain with Holm's correction for its length."""
    every = [one for one in store.rounds(controls=True) if one.status == "done"]
    turns, names = [one for one in every if one.policy == "best"], {one.round: one for one in every}
    controls = [(one, names[one.tasks_of]) for one in every if one.policy != "best" and one.tasks_of in names]
    skipped: list[str] = []
    parents = [(names[one.parent], one) for one in turns if one.parent in names]
    firsts = [(turns[0], one) for one in turns[1:]]
    found = [_chain(store, pairs, skipped) for pairs in (parents, firsts, controls)]
    means = {name: value for name, value in evaluations.metric(store.path, "heldout.judge").items() if names.get(name) in turns}
    return Trend(
        rounds=tuple(one.round for one in turns),
        against_parent=found[0],
        against_first=found[1],
        against_control=found[2],
        best=max(means, key=lambda name: means[name]) if means else None,
        skipped=tuple(dict.fromkeys(skipped)),
    )


def _chain(store: Store, pairs: Sequence[tuple[Round, Round]], skipped: list[str]) -> tuple[Step, ...]:
    known = []
    for before, after in pairs:
        reason = incomparable(before, after)
        skipped += [reason] if reason else []
        known += [] if reason else [(before, after)]
    found = [measure(store, before, after) for before, after in known]
    p_values = [difference_p(after.judge - before.judge) for before, after in found]
    levels = _levels(p_values, [1 - settings(after).confidence for _, after in known])
    return tuple(
        Step(
            base=before.round,
            round=after.round,
            comparison=compared(figures, settings(after), confidence=1 - level),
            p=p,
        )
        for (before, after), figures, level, p in zip(known, found, levels, holm(p_values), strict=True)
    )


def _levels(p_values: Sequence[float], alphas: Sequence[float]) -> list[float]:
    """The level that each comparison is held to: alpha over those not yet decided, by rising p, until one fails."""
    levels, left, failed = [0.0] * len(p_values), len(p_values), False
    for place in sorted(range(len(p_values)), key=lambda place: p_values[place]):
        levels[place] = alphas[place] / left
        failed = failed or p_values[place] > levels[place]
        left -= not failed
    return levels


def rounds_without_gain(steps: Sequence[str]) -> int:
    """How many of the last verdicts in a row are not *improved*."""
    count = 0
    for verdict in reversed(steps):
        if verdict == "improved":
            break
        count += 1
    return count
