"""`flywheel reward eval` as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from flywheel.report.tables import counts, print_json, print_line, print_table
from flywheel.store.reading import Table

if TYPE_CHECKING:
    from flywheel.core.statistics import Estimate
    from flywheel.reward.report import RewardReport


def print_reward_report(report: RewardReport, *, as_json: bool) -> None:
    """The verdict on the reward model, the tables, and mergekit's YAML of the merge."""
    if as_json:
        print_json(asdict(report))
        return
    print_line(report.sentence)
    for table in _tables(report):
        print_line()
        print_table(table)
    print_line()
    print_line(report.recipe.rstrip())


def _tables(report: RewardReport) -> Iterator[Table]:
    sets, scorers = list(report.sets), report.scorers
    yield Table(
        columns=(f"{report.split} accuracy", *sets, "average", "worst loss"),
        rows=[
            (
                scorer.name,
                *(_interval(scorer.accuracy[name]) for name in sets),
                scorer.average,
                _loss(scorer.lost, scorer.lost_on),
            )
            for scorer in scorers
        ],
    )
    regret = f"regret in {report.candidates}" if report.candidates else "regret"
    chance = report.regret_by_chance
    random_choice = [] if chance is None else [("random choice", None, None, f"{chance:.3f}", None)]
    yield Table(
        columns=("scorer", "length correlation", "calibration error", regret, "s per 1,000 texts"),
        rows=[
            (
                scorer.name, scorer.length_correlation, scorer.calibration_error,
                scorer.regret and _interval(scorer.regret), scorer.seconds_per_1000,
            )
            for scorer in scorers
        ]
        + random_choice,
    )  # fmt: skip
    shares = report.disagreement
    yield Table(
        columns=("disagreement", *shares),
        rows=[(name, *(None if name == other else shares[name][other] for other in shares)) for name in shares],
    )
    yield Table(
        columns=("set", "kind", "train", "validation", "test", "dropped"),
        rows=[
            (name, rows.kind, rows.train, rows.validation, rows.test, counts(rows.dropped) or "none")
            for name, rows in report.sets.items()
        ],
    )


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _loss(points: float | None, on: str | None) -> str:
    return "" if points is None else f"{-100 * points:+.1f} points on {on}"
