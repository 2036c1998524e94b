"""Every round against the one before, the first and its control, corrected for the number of comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.core.html import html_table
from flywheel.core.statistics import difference_p, holm
from flywheel.evaluation.compare import incomparable, measure, settings
from flywheel.evaluation.evidence import gather
from flywheel.evaluation.verdict import Comparison, Verdict
from flywheel.records import Policy, Round
from flywheel.store import evaluations
from flywheel.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One comparison of a chain."""

    base: str
    round: str
    comparison: Comparison
    """At the confidence that Holm's procedure leaves for it: claims hold for the whole chain at once."""
    adjusted_p: float
    """p-value of the judge's difference, adjusted by Holm's procedure."""

    def as_json(self) -> dict[str, Any]:
        return self.comparison.as_json() | {"adjusted_p": self.adjusted_p}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """All finished rounds."""

    rounds: tuple[str, ...]
    against_parent: tuple[Step, ...]
    against_first: tuple[Step, ...]
    against_control: tuple[Step, ...]
    """Rounds against the generators that were trained on another policy's choices among the same candidates."""
    best: str | None
    """The round whose generator the judge scores highest; the earlier of two that are equal."""
    skipped: tuple[str, ...]
    """Why pairs of rounds were left out."""

    def as_json(self) -> dict[str, Any]:
        chains = ("against_parent", "against_first", "against_control")
        steps = {chain: [step.as_json() for step in getattr(self, chain)] for chain in chains}
        return {"rounds": self.rounds, "best": self.best, **steps, "skipped": self.skipped}

    def _repr_html_(self) -> str:
        rows = [
            (step.round, step.base, step.comparison.verdict, evidence.with_interval(evidence.judge), f"{step.adjusted_p:.2g}")
            for step in (*self.against_parent, *self.against_first, *self.against_control)
            for evidence in (step.comparison.evidence,)
        ]
        return html_table(f"Best round: {self.best}", ("round", "against", "verdict", "judge Δ", "adjusted p"), rows)


def trend(store: Store) -> Trend:
    """Compare all evaluated rounds, each chain with Holm's correction for its length."""
    done = {row.round: row for row in store.rounds(controls=True) if row.status == "done"}
    rounds = [row for row in done.values() if row.policy == Policy.BEST]
    parents = [(done[row.parent], row) for row in rounds if row.parent in done]
    firsts = [(rounds[0], row) for row in rounds[1:]]
    controls = [(row, done[row.tasks_of]) for row in done.values() if row.policy != Policy.BEST and row.tasks_of in done]
    skipped: list[str] = []
    against_parent, against_first, against_control = (_chain(store, pairs, skipped) for pairs in (parents, firsts, controls))
    names = [row.round for row in rounds]
    means = {name: value for name, value in evaluations.metric(store.path, "heldout.judge").items() if name in names}
    return Trend(
        rounds=tuple(names),
        against_parent=against_parent,
        against_first=against_first,
        against_control=against_control,
        best=max(means, key=lambda name: means[name]) if means else None,
        skipped=tuple(dict.fromkeys(skipped)),
    )


def _chain(store: Store, pairs: Sequence[tuple[Round, Round]], skipped: list[str]) -> tuple[Step, ...]:
    reasons = [incomparable(before, after) for before, after in pairs]
    skipped += [reason.message for reason in reasons if reason]
    comparable = [pair for pair, reason in zip(pairs, reasons, strict=True) if reason is None]
    figures = [(*measure(store, before, after), settings(after)) for before, after in comparable]
    p_values = [difference_p(after.judge - before.judge) for before, after, _ in figures]
    levels = holm_levels(p_values, [1 - config.confidence for _, _, config in figures])
    return tuple(
        Step(
            base=before.name,
            round=after.name,
            comparison=Comparison(gather(before, after, config, confidence=1 - level)),
            adjusted_p=adjusted_p,
        )
        for (before, after, config), level, adjusted_p in zip(figures, levels, holm(p_values), strict=True)
    )


def holm_levels(p_values: Sequence[float], alphas: Sequence[float]) -> list[float]:
    """The level of each comparison: alpha over the number not yet rejected, by rising p, until one is not rejected."""
    levels, left, failed = [0.0] * len(p_values), len(p_values), False
    for place in sorted(range(len(p_values)), key=lambda place: p_values[place]):
        levels[place] = alphas[place] / left
        failed = failed or p_values[place] > levels[place]
        left -= not failed
    return levels


def rounds_without_gain(verdicts: Sequence[str]) -> int:
    """How many of the last verdicts in a row are not *improved*."""
    return next((count for count, verdict in enumerate(reversed(verdicts)) if verdict == Verdict.IMPROVED), len(verdicts))
