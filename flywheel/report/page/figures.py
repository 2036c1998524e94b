"""What the page shows besides tasks: rows, read from the store once, that charts are drawn and tables are filled from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from flywheel.core.safe_text import visible
from flywheel.core.statistics import Estimate
from flywheel.errors import FlywheelError
from flywheel.evaluation.best_of_n import Curve, curve_of, policies_of
from flywheel.evaluation.trend import Step, Trend, trend
from flywheel.evaluation.verdict import Difference
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
    turns: list[Row]
    """The rounds without the controls."""
    trend: Trend
    chains: Mapping[str, Sequence[Step]]
    """The comparisons with the parent, the first round and the control."""
    headlines: list[Step]
    """The newest comparison of each kind."""
    comparisons: list[Row]
    measures: list[Row]
    other_judges: Mapping[str, str]
    """The measures of judges that do not decide, by the headings of their columns."""
    policies: list[Row]
    """Selection policies of each round; by the judge where it scored candidates, else by the reward only."""
    curves: Mapping[str, Curve]
    """Best-of-N curves by round, where the judge scored candidates."""
    points: list[Row]
    """The points of all best-of-N curves."""
    lengths: list[Row]
    drops: list[Row]
    stages: list[Row]
    totals: list[Row]
    models: list[Row]
    """Reward models, each with ``parts``: its members and the merge."""

    def measured(self, *names: str) -> list[Row]:
        """The rows of some measures."""
        return [row for row in self.measures if row["name"] in names]


def gather(store: Store) -> Figures:
    """Read everything from the store."""
    path, stages = store.path, [str(stage) for stage in Stage]
    rounds = report_rows.rows(path, "rounds", stages=stages)
    answered = [row for row in store.rounds() if row.number > 0 and row.reward_model]
    curves = {row.round: curve for row in answered if (curve := curve_of(store, row)) is not None}
    try:
        steps = trend(store)
    except FlywheelError as error:  # rounds that cannot be compared can still be shown
        steps = Trend(rounds=(), against_parent=(), against_first=(), against_control=(), best=None, skipped=(error.message,))
    chains = {"parent": steps.against_parent, "first": steps.against_first, "control": steps.against_control}
    last = {(chain[-1].round, chain[-1].base): chain[-1] for chain in chains.values() if chain}
    measures = report_rows.rows(path, "measures")
    others = [row["name"] for row in measures if row["name"].startswith("heldout.judge.")]
    policies = [
        {"round": row.round, "number": row.number} | asdict(policy) | _interval(policy.difference)
        for row in answered
        for policy in policies_of(store, row)
    ]
    points = [
        {"round": name, "n": point.n, "kl": point.kl, "tasks": curve.tasks}
        | _interval(point.judge, "judge")
        | _interval(point.reward, "reward")
        for name, curve in curves.items()
        for point in curve.points
    ]
    return Figures(
        rounds=rounds,
        turns=[row for row in rounds if row["policy"] == Policy.BEST],
        trend=steps,
        chains=chains,
        headlines=list(last.values()),
        comparisons=[step_row(step) for chain in chains.values() for step in chain],
        measures=measures,
        other_judges={name.removeprefix("heldout.").replace(".", " ", 1): name for name in others},
        policies=policies or report_rows.rows(path, "policies"),
        curves=curves,
        points=points,
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
    return names | figures | _interval(evidence.judge) | _interval(evidence.reward, "reward")


def _interval(estimate: Estimate | Difference | None, prefix: str = "") -> Row:
    """The ``value``, ``low`` and ``high`` of an estimate; with a prefix such as judge: judge, judge_low and judge_high."""
    names = (prefix, f"{prefix}_low", f"{prefix}_high") if prefix else ("value", "low", "high")
    return {name: getattr(estimate, end, None) for name, end in zip(names, ("value", "low", "high"), strict=True)}


def _models(rows: list[Row], member_rows: list[Row]) -> Iterator[Row]:
    members = {row["model_id"]: (row["name"], FACTS.validate_json(row["facts"])) for row in member_rows}
    for row in rows:
        facts, rounds = FACTS.validate_json(row["facts"]), row["rounds"]
        models = [*(members[member] for member in facts.members if member in members), ("merged", facts)]
        merge = {name: value for name, value in facts.merge.items() if value is not None}
        settings = [f"{value} merge" if name == "method" else f"{name} {value}" for name, value in merge.items()]
        used = f"{rounds[0]} to {rounds[-1]}" if len(rounds) > 1 else rounds[0]
        columns = {name: f"{{accuracy[on {name}]:.3f}}" for _, model in models for name in model.accuracy}
        yield {
            "title": ", ".join([row["model_id"], *settings, f"selects in {used}"]),
            "parts": [_part(name, model, facts.weights.get(name)) for name, model in models],
            "accuracy_columns": columns | {"average": "{average:.3f}"},
        }


def _part(name: str, facts: Facts, weight: float | None) -> Row:
    average = sum(facts.accuracy.values()) / len(facts.accuracy) if facts.accuracy else None
    accuracy = {f"on {on}": value for on, value in facts.accuracy.items()}
    return {"model": name, "weight": weight, "rows": facts.rows or None, "average": average, "accuracy": accuracy}
