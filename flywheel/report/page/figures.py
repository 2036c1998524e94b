"""What the page shows besides tasks: rows, read from the store once, that charts are drawn and tables are written from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flywheel.core.safe_text import visible
from flywheel.errors import FlywheelError
from flywheel.evaluation.best_of_n import Curve, curve_of, policies_of
from flywheel.evaluation.trend import Step, Trend, trend
from flywheel.records import Facts, Policy
from flywheel.store import report_rows
from flywheel.store.report_rows import Row
from flywheel.store.rows import FACTS
from flywheel.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Rows by what they are of; where something is missing (a verdict, a judge, a control) there are none."""

    rounds: list[Row]
    trend: Trend | None
    no_trend: str | None
    """Why the rounds cannot be compared."""
    measures: list[Row]
    policies: list[Row]
    """Selection policies of each round; by the judge where it scored candidates, else by the reward only."""
    curves: Mapping[str, Curve]
    """Best-of-N curves by round, where the judge scored candidates."""
    lengths: list[Row]
    drops: list[Row]
    stages: list[Row]
    models: list[Row]
    """Reward models, each with ``parts``: its members and the merge."""

    @property
    def turns(self) -> list[Row]:
        """The rounds without the controls."""
        return [row for row in self.rounds if row["policy"] == Policy.BEST]

    def measured(self, *names: str) -> list[Row]:
        """The rows of some measures."""
        return [row for row in self.measures if row["name"] in names]


def gather(store: Store) -> Figures:
    """Read everything from the store."""
    rows, rounds = report_rows.figures(store.path), [row for row in store.rounds() if row.number > 0 and row.reward_model]
    steps, no_trend = _trend(store)
    policies = [
        {"round": row.round, "number": row.number} | asdict(policy) | _interval("", policy.difference)
        for row in rounds
        for policy in policies_of(store, row)
    ]
    return Figures(
        rounds=rows["rounds"],
        trend=steps,
        no_trend=no_trend,
        measures=rows["measures"],
        policies=policies or rows["policies"],
        curves={row.round: curve for row in rounds if (curve := curve_of(store, row)) is not None},
        lengths=rows["lengths"],
        # A reason of the user's own filter may quote a model; a chart cannot draw its line ends.
        drops=[row | {"reason": visible(row["reason"]), "example": " ".join(row["example"].split())} for row in rows["drops"]],
        stages=rows["stages"],
        models=list(_models(rows["models"], rows["members"])),
    )


def _trend(store: Store) -> tuple[Trend | None, str | None]:
    """A store whose rounds cannot be compared can still be shown."""
    try:
        return trend(store), None
    except FlywheelError as error:
        return None, str(error)


def step_row(step: Step) -> Row:
    """One comparison of a trend."""
    evidence = step.comparison.evidence
    names = {"pair": f"{step.round} vs. {step.base}", "verdict": str(step.comparison.verdict)}
    figures = {"before": evidence.judge.before, "after": evidence.judge.after, "p": step.adjusted_p, "tasks": evidence.tasks}
    return names | figures | _interval("", evidence.judge) | _interval("reward", evidence.reward)


def curve_rows(figures: Figures) -> list[Row]:
    """The points of all best-of-N curves."""
    return [
        {"round": name, "n": point.n, "kl": point.kl, "tasks": curve.tasks}
        | _interval("judge", point.judge)
        | _interval("reward", point.reward)
        for name, curve in figures.curves.items()
        for point in curve.points
    ]


def _interval(name: str, estimate: Any) -> Row:
    """The fields of an estimate, such as judge, judge_low, judge_high, or value, low and high without a name."""
    fields = [name or "value", *(f"{name}_{end}" if name else end for end in ("low", "high"))]
    values = (estimate.value, estimate.low, estimate.high) if estimate is not None else (None, None, None)
    return dict(zip(fields, values, strict=True))


def _models(rows: list[Row], member_rows: list[Row]) -> Iterator[Row]:
    members = {row["model_id"]: row for row in member_rows}
    for row in rows:
        facts = FACTS.validate_json(row["facts"])
        parts = [
            _part(member["name"], FACTS.validate_json(member["facts"]), facts.weights.get(member["name"]))
            for member in map(members.get, facts.members)
            if member
        ]
        settings = {name: value for name, value in facts.merge.items() if name != "method" and value is not None}
        how = f"{facts.merge['method']} merge" if facts.merge.get("method") else ""
        values = ", ".join(f"{name} {value}" for name, value in settings.items())
        yield row | {"how": f"{how} ({values})" if values else how, "parts": [*parts, _part("merged", facts, None)]}


def _part(name: str, facts: Facts, weight: float | None) -> Row:
    accuracy = facts.accuracy
    average = sum(accuracy.values()) / len(accuracy) if accuracy else None
    return {"model": name, "weight": weight, "rows": facts.rows or None, "average": average, "accuracy": accuracy}
