"""Which charts the page has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from flywheel.records import Policy, Stage
from flywheel.report.page import forms
from flywheel.report.page.figures import Figures, step_row

MOST_REASONS = 8
"""Drop reasons with a colour of their own; the rarer ones share one."""
TURNS = "trained on best-of-N"
Charts = Iterator[tuple[str, Any]]


def charts_of(figures: Figures) -> dict[str, Any]:
    """The Altair charts of the figures that exist, by the names of their files."""
    sources = (_verdicts, _measures, _paired, _diversity, _lengths, _curves, _policies, _drops, _stages)
    return {name: chart for source in sources for name, chart in source(figures)}


def _verdicts(figures: Figures) -> Charts:
    for name, steps in figures.chains.items():
        if steps:
            margin = steps[-1].comparison.evidence.margin
            yield f"judge-against-{name}", forms.intervals([step_row(step) for step in steps], margin=margin)


def _measures(figures: Figures) -> Charts:
    for name, measure, axis, colour in (
        ("judge", "heldout.judge", "judge on held-out tasks", "judge"),
        ("reward", "heldout.reward", "reward on held-out tasks", "reward"),
        ("heldout-length", "heldout.tokens", "tokens", "series-4"),
        ("output-diversity", "heldout.diversity", "output diversity", "series-2"),
    ):
        rows = [
            row | {"trained": TURNS if row["policy"] == Policy.BEST else f"trained on {row['policy']}"}
            for row in figures.measured(measure)
        ]
        colours = {TURNS: colour} | {row["trained"]: row["policy"] for row in rows if row["policy"] != Policy.BEST}
        if rows:
            yield name, forms.over_rounds(rows, axis, "trained", colours, lines=[TURNS])


def _paired(figures: Figures) -> Charts:
    rewards = {row["round"]: row for row in figures.measured("heldout.reward")}
    rows = [
        row
        | {"turn": row["policy"] == Policy.BEST, "judge": row["value"], "judge_low": row["low"], "judge_high": row["high"]}
        | {"reward": reward["value"], "reward_low": reward["low"], "reward_high": reward["high"]}
        for row in figures.measured("heldout.judge")
        if (reward := rewards.get(row["round"]))
    ]
    if rows:
        yield "judge-by-reward", forms.path(rows)


def _diversity(figures: Figures) -> Charts:
    names = {"tasks.distinct_2": "distinct-2", "tasks.self_bleu": "self-BLEU", "tasks.novel": "novel"}
    rows = [row | {"name": names[row["name"]]} for row in figures.measured(*names)]
    measured = {row["name"] for row in rows}
    colours = {name: f"series-{place}" for place, name in enumerate(names.values()) if name in measured}
    if rows:
        yield "diversity", forms.over_rounds(rows, "share", "name", colours, lines=list(colours))


def _lengths(figures: Figures) -> Charts:
    colours = {"all": "muted", "winners": "best"}
    if rows := figures.lengths:
        yield "length", forms.over_rounds(rows, "tokens", "candidates", colours, lines=list(colours))


def _curves(figures: Figures) -> Charts:
    if rows := figures.points:
        yield "best-of-n-judge", forms.curves(rows, "judge")
        yield "best-of-n-reward", forms.curves(rows, "reward")


def _policies(figures: Figures) -> Charts:
    """By the judge where it scored candidates; else by the reward, which selected."""
    colours = {str(policy): str(policy) for policy in Policy if any(row["policy"] == policy for row in figures.policies)}
    judged = [row for row in figures.policies if row["value"] is not None]
    if judged:
        del colours[Policy.BEST]
        yield "policies-judge", forms.over_rounds(judged, "Δ judge vs. best-of-N", "policy", colours, lines=[])
    elif colours:
        rows = [row | {"value": row["reward"], "low": None, "high": None} for row in figures.policies]
        yield "policies-reward", forms.over_rounds(rows, "mean reward", "policy", colours, lines=list(colours))


def _drops(figures: Figures) -> Charts:
    rows = [row for row in figures.drops if row["origin"] == "proposed"]
    dropped = Counter[str]()
    for row in rows:
        dropped[row["reason"]] += row["attempts"] if row["reason"] != "kept" else 0
    del dropped["kept"]
    names = ["kept", *(reason for reason, _ in dropped.most_common(MOST_REASONS))]
    colours = {name: f"series-{place}" if place else "kept" for place, name in enumerate(names)}
    if len(dropped) > MOST_REASONS:
        colours["other reasons"] = f"series-{len(names)}"
    if rows:
        merged = [row if row["reason"] in colours else row | {"reason": "other reasons"} for row in rows]
        yield "drops", forms.stacked(merged, "attempts", "reason", colours)


def _stages(figures: Figures) -> Charts:
    if rows := [row for row in figures.stages if row["seconds"]]:
        used = {row["stage"] for row in rows}
        colours = {str(stage): f"series-{place}" for place, stage in enumerate(Stage) if stage in used}
        yield "stages", forms.stacked(rows, "seconds", "stage", colours)
