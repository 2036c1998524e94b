"""Which charts the page has, and what each says in words. Each is drawn for a width: the page has a wide and a narrow one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from flywheel.evaluation.trend import Step
from flywheel.records import Policy, Stage
from flywheel.report.page import marks
from flywheel.report.page.figures import Figures, Measure
from flywheel.report.page.palette import colour, ramp, series

WIDE, NARROW = 520, 320
"""Widths of the charts on the page, in pixels: in a column, and on a phone."""
ASIDE = 0.14
"""How far apart things of one round lie, where a round is 1."""
MOST_REASONS = 8
"""Reasons with a colour of their own; the rarer ones are one."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart with the name of its file and what it shows in words."""

    name: str
    title: str
    says: str
    """What somebody who does not see it has to know."""
    draw: Callable[[int], Any]
    """The Altair chart for a width in pixels."""


def charts_of(figures: Figures) -> dict[str, Chart]:
    """The charts that there are figures for, by name."""
    makers = (_verdicts, _measures, _diversity, _lengths, _curves, _policies, _drops, _stages)
    return {chart.name: chart for maker in makers for chart in maker(figures)}


def _verdicts(figures: Figures) -> Iterator[Chart]:
    if figures.trend is None:
        return
    for name, title, steps in (
        ("judge-against-parent", "Each round against the one before", figures.trend.against_parent),
        ("judge-against-first", "Each round against the first", figures.trend.against_first),
        ("judge-against-control", "Each round against its control", figures.trend.against_control),
    ):
        if steps:
            rows = [_step(step) for step in steps]
            margin = steps[-1].comparison.evidence.margin
            draw = partial(marks.intervals, rows, margin=margin, tints=colour)
            says = f"Difference of the judge with its interval: {_spans(rows, 'label')}"
            yield Chart(name=name, title=title, says=says, draw=draw)


def _step(step: Step) -> dict[str, Any]:
    judge, word = step.comparison.evidence.judge, str(step.comparison.verdict)
    label = f"{step.round} – {step.base}"
    return {"label": label, "name": word, "value": judge.value, "low": judge.low, "high": judge.high}


def _measures(figures: Figures) -> Iterator[Chart]:
    for metric, name, title, axis, tint in (
        ("heldout.judge", "judge", "Judge", "judge on held-out tasks", colour("judge")),
        ("heldout.reward", "reward", "Reward", "reward on held-out tasks", colour("reward")),
        ("heldout.tokens", "heldout-length", "Length of held-out outputs", "tokens", series(4)),
        ("heldout.diversity", "own-words", "Diversity of held-out outputs", "share of words of its own", series(2)),
    ):
        if measures := figures.measured(metric):
            yield _turns(name, title, axis, measures, tint)
    judge, reward = figures.measured("heldout.judge"), figures.measured("heldout.reward")
    if rows := _paired(judge, reward):
        told = ", ".join(f"{row['round']} reward {row['reward']:.2f}, judge {row['judge']:.3f}" for row in rows)
        draw = partial(marks.path, rows)
        yield Chart(name="judge-by-reward", title="Judge by reward", says=f"The path of the rounds: {told}", draw=draw)


def _turns(name: str, title: str, axis: str, measures: Sequence[Measure], tint: str) -> Chart:
    """A line through the turns of the wheel, the controls beside them."""
    turns = "trained on the winners"
    tints = {turns: tint} | {_label(one.policy): colour(one.policy) for one in measures if one.policy != Policy.BEST}
    rows = [
        {
            "x": one.number + (0 if one.policy == Policy.BEST else ASIDE),
            "name": turns if one.policy == Policy.BEST else _label(one.policy),
            "value": one.value, "low": one.low, "high": one.high,
        }
        for one in measures
    ]  # fmt: skip
    told = ", ".join(f"{one.round} {one.value:.3f}" for one in measures)
    draw = partial(marks.over_rounds, rows, title=axis, tints=tints.__getitem__, lines=[turns])
    return Chart(name=name, title=title, says=f"{title} over the rounds: {told}", draw=draw)


def _label(policy: str) -> str:
    return f"trained on {policy} picks"


def _paired(judge: Sequence[Measure], reward: Sequence[Measure]) -> Rows:
    rewards = {one.round: one for one in reward}
    return [
        {
            "round": one.round, "place": place, "turn": one.policy == Policy.BEST,
            "judge": one.value, "judge_low": one.low, "judge_high": one.high,
            "reward": rewards[one.round].value, "reward_low": rewards[one.round].low, "reward_high": rewards[one.round].high,
        }
        for place, one in enumerate(judge)
        if one.round in rewards
    ]  # fmt: skip


def _diversity(figures: Figures) -> Iterator[Chart]:
    shares = {"distinct-2": "tasks.distinct_2", "self-BLEU": "tasks.self_bleu", "novel": "tasks.novel"}
    names = list(shares)
    rows = [
        {"x": one.number, "name": name, "value": one.value, "low": one.low, "high": one.high}
        for name, metric in shares.items()
        for one in figures.measured(metric)
    ]
    if rows:
        yield _lines("diversity", "Diversity of the tasks", "share", rows, lambda name: series(names.index(name)))


def _lengths(figures: Figures) -> Iterator[Chart]:
    tints = {"all": colour("muted"), "winners": colour("best")}
    rows = [
        {
            "x": one.number + ASIDE * (0.5 if one.of == "winners" else -0.5), "name": one.of,
            "value": one.mean, "low": one.low, "high": one.high,
        }
        for one in figures.lengths
    ]  # fmt: skip
    if rows:
        yield _lines("length", "Length of the candidates", "tokens", rows, tints.__getitem__)


def _lines(name: str, title: str, axis: str, rows: Rows, tints: Callable[[str], str]) -> Chart:
    names = list(dict.fromkeys(row["name"] for row in rows))
    told = "; ".join(
        f"{one}: " + ", ".join(f"r{row['x']:.0f} {row['value']:.2f}" for row in rows if row["name"] == one) for one in names
    )
    draw = partial(marks.over_rounds, rows, title=axis, tints=tints, lines=names)
    return Chart(name=name, title=title, says=f"{title} over the rounds. {told}", draw=draw)


def _curves(figures: Figures) -> Iterator[Chart]:
    names = list(figures.curves)
    sizes = {step.n: step.kl for curve in figures.curves.values() for step in curve.points}
    labels = {str(n): sizes[n] for n in sorted(sizes) if n & (n - 1) == 0 or n == max(sizes)}
    for field in ("judge", "reward") if names else ():
        rows = [
            {
                "name": name, "x": step.kl, "n": step.n,
                "value": (figure := getattr(step, field)).value, "low": figure.low, "high": figure.high,
            }
            for name, curve in figures.curves.items()
            for step in curve.points
        ]  # fmt: skip
        told = "; ".join(
            f"{name}: " + ", ".join(f"N={row['n']} {row['value']:.3f}" for row in rows if row["name"] == name) for name in names
        )
        title = f"Best of N: {field}"
        yield Chart(
            name=f"best-of-n-{field}",
            title=title,
            says=f"{title}. {told}",
            draw=partial(marks.curve, rows, title=field, labels=labels, tints=lambda name: ramp(names.index(name), len(names))),
        )


def _policies(figures: Figures) -> Iterator[Chart]:
    """By the judge where it was asked; else by the reward, which is the one that selected."""
    numbers = {one.round: one.number for one in figures.rounds}
    rows: Rows = [
        {
            "x": numbers[name], "label": f"{name} {one.policy}", "name": one.policy, "value": one.difference.value,
            "low": one.difference.low, "high": one.difference.high,
        }
        for name, policies in figures.policies.items()
        for one in policies
        if one.difference is not None
    ]  # fmt: skip
    title = "Other policies against best-of-N"
    if rows:
        policies = [policy for policy in map(str, Policy) if any(row["name"] == policy for row in rows)]
        moved = [row | {"x": row["x"] + ASIDE * (policies.index(row["name"]) - (len(policies) - 1) / 2)} for row in rows]
        draw = partial(marks.over_rounds, moved, title="judge: Δ to best-of-N", tints=colour, lines=[], zero=True)
        yield Chart(name="policies-judge", title=title, says=f"{title}: {_spans(rows, 'label')}", draw=draw)
        return
    rewards = [
        {"x": one.number, "name": one.policy, "value": one.reward, "low": None, "high": None}
        for one in figures.picks
        if one.reward is not None
    ]
    if rewards:
        yield _lines("policies-reward", "Reward of what each policy picked", "mean reward", rewards, colour)


def _spans(rows: Rows, label: str) -> str:
    return "; ".join(f"{row[label]} {row['value']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})" for row in rows)


def _drops(figures: Figures) -> Iterator[Chart]:
    drops = [one for one in figures.drops if one.origin == "proposed"]
    totals: dict[str, int] = {}
    for one in drops:
        if one.fate != "kept":
            totals[one.fate] = totals.get(one.fate, 0) + one.attempts
    often = sorted(totals, key=lambda reason: -totals[reason])[:MOST_REASONS]
    names = ["kept", *often, *(["other reasons"] if len(totals) > len(often) else [])]
    tints = {name: series(place) for place, name in enumerate(names)} | {"kept": colour("kept")}
    rows = [{"round": one.round, "name": one.fate if one.fate in names else names[-1], "value": one.attempts} for one in drops]
    if rows:
        yield _bars("drops", "What became of the proposed tasks", "attempts", rows, names, tints)


def _stages(figures: Figures) -> Iterator[Chart]:
    tints = {str(stage): series(place) for place, stage in enumerate(Stage)}
    rows = [{"round": one.round, "name": one.stage, "value": one.seconds} for one in figures.stages if one.seconds > 0]
    names = [name for name in tints if any(row["name"] == name for row in rows)]
    if rows:
        yield _bars("stages", "Time of each stage", "seconds", rows, names, tints)


def _bars(name: str, title: str, axis: str, rows: Rows, names: Sequence[str], tints: dict[str, str]) -> Chart:
    rounds = dict.fromkeys(row["round"] for row in rows)
    told = "; ".join(
        f"{one}: " + ", ".join(f"{row['name']} {row['value']:,.0f}" for row in rows if row["round"] == one) for one in rounds
    )
    draw = partial(marks.stacked, rows, title=axis, tints=tints.__getitem__, names=names)
    return Chart(name=name, title=title, says=f"{title}. {told}", draw=draw)
