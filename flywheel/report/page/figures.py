"""What the page shows besides tasks: rows, read from the store once, that charts are drawn and tables are filled from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flywheel.core.safe_text import visible
from flywheel.errors import FlywheelError
from flywheel.evaluation.best_of_n import Curve, curve_of, policies_of
from flywheel.evaluation.trend import Step, Trend, trend
from flywheel.records import Facts, Policy, Stage
from flywheel.report.page.tables import duration
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
    totals: list[Row]
    models: list[Row]
    """Reward models, each with ``parts``: its members and the merge."""

    @property
    def turns(self) -> list[Row]:
        """The rounds without the controls."""
        return [row for row in self.rounds if row["policy"] == Policy.BEST]

    @property
    def chains(self) -> dict[str, tuple[Step, ...]]:
        """The comparisons of each kind."""
        if self.trend is None:
            return {}
        return {"parent": self.trend.against_parent, "first": self.trend.against_first, "control": self.trend.against_control}

    @property
    def headlines(self) -> list[Step]:
        """The newest comparison of each kind."""
        last = [steps[-1] for steps in self.chains.values() if steps]
        return list({(step.round, step.base): step for step in last}.values())

    @property
    def comparisons(self) -> list[Row]:
        """The comparisons of all kinds as rows."""
        return [step_row(step) for steps in self.chains.values() for step in steps]

    @property
    def curve_points(self) -> list[Row]:
        """The points of all best-of-N curves."""
        return [
            {"round": name, "n": point.n, "kl": point.kl, "tasks": curve.tasks}
            | _interval("judge", point.judge)
            | _interval("reward", point.reward)
            for name, curve in self.curves.items()
            for point in curve.points
        ]

    def measured(self, *names: str) -> list[Row]:
        """The rows of some measures."""
        return [row for row in self.measures if row["name"] in names]

    @property
    def other_judges(self) -> dict[str, str]:
        """The measures of judges that do not decide, by the headings of their columns."""
        names = [row["name"] for row in self.measures if row["name"].startswith("heldout.judge.")]
        return {f"judge {name.removeprefix('heldout.judge.')}": name for name in names}


def gather(store: Store) -> Figures:
    """Read everything from the store."""
    path, stages = store.path, [str(stage) for stage in Stage]
    rounds = [row for row in store.rounds() if row.number > 0 and row.reward_model]
    try:
        steps, no_trend = trend(store), None
    except FlywheelError as error:  # rounds that cannot be compared can still be shown
        steps, no_trend = None, str(error)
    policies = [
        {"round": row.round, "number": row.number} | asdict(policy) | _interval("", policy.difference)
        for row in rounds
        for policy in policies_of(store, row)
    ]
    return Figures(
        rounds=report_rows.rows(path, "rounds", stages=stages),
        trend=steps,
        no_trend=no_trend,
        measures=report_rows.rows(path, "measures"),
        policies=policies or report_rows.rows(path, "policies"),
        curves={row.round: curve for row in rounds if (curve := curve_of(store, row)) is not None},
        lengths=report_rows.rows(path, "lengths"),
        # A reason of the user's own filter may quote a model; a chart cannot draw its line ends.
        drops=[
            row | {"reason": visible(row["reason"]), "example": " ".join(row["example"].split())}
            for row in report_rows.rows(path, "drops")
        ],
        stages=report_rows.rows(path, "stages", stages=stages),
        totals=[row | {"time": duration(row["seconds"])} for row in report_rows.rows(path, "totals")],
        models=list(_models(report_rows.rows(path, "models"), report_rows.rows(path, "members"))),
    )


def step_row(step: Step) -> Row:
    """One comparison of a trend."""
    evidence = step.comparison.evidence
    names = {"pair": f"{step.round} vs. {step.base}", "verdict": str(step.comparison.verdict)}
    figures = {"before": evidence.judge.before, "after": evidence.judge.after, "p": step.adjusted_p, "tasks": evidence.tasks}
    return names | figures | _interval("", evidence.judge) | _interval("reward", evidence.reward)


def _interval(name: str, estimate: Any) -> Row:
    """The fields of an estimate, such as judge, judge_low, judge_high, or value, low and high without a name."""
    fields = [name or "value", *(f"{name}_{end}" if name else end for end in ("low", "high"))]
    values = (estimate.value, estimate.low, estimate.high) if estimate is not None else (None, None, None)
    return dict(zip(fields, values, strict=True))


def _models(rows: list[Row], member_rows: list[Row]) -> Iterator[Row]:
    members = {row["model_id"]: row for row in member_rows}
    for row in rows:
        facts, rounds = FACTS.validate_json(row["facts"]), row["rounds"]
        listed = [member for member in map(members.get, facts.members) if member]
        models = [(member["name"], FACTS.validate_json(member["facts"])) for member in listed]
        parts = [_part(name, member, facts.weights.get(name)) for name, member in models] + [_part("merged", facts, None)]
        settings = {name: value for name, value in facts.merge.items() if name != "method" and value is not None}
        how = f"{facts.merge['method']} merge" if facts.merge.get("method") else ""
        values = ", ".join(f"{name} {value}" for name, value in settings.items())
        used = f"{rounds[0]} to {rounds[-1]}" if len(rounds) > 2 else " and ".join(rounds)
        title = ", ".join(filter(None, [row["model_id"], f"{how} ({values})" if values else how, f"selects in {used}"]))
        columns = {name: f"{{accuracy[on {name}]:.3f}}" for _, member in [*models, ("", facts)] for name in member.accuracy}
        yield {"title": title, "parts": parts, "accuracy_columns": columns | {"average": "{average:.3f}"}}


def _part(name: str, facts: Facts, weight: float | None) -> Row:
    average = sum(facts.accuracy.values()) / len(facts.accuracy) if facts.accuracy else None
    accuracy = {f"on {on}": value for on, value in facts.accuracy.items()}
    return {"model": name, "weight": weight, "rows": facts.rows or None, "average": average, "accuracy": accuracy}
