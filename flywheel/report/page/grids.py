"""Tables of the page: the same figures as its charts, as texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from flywheel.core.statistics import Estimate
from flywheel.evaluation.trend import Trend
from flywheel.evaluation.verdict import Difference
from flywheel.report.page.figures import Drop, Figures, Length, Measure, Merge, StageLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table of texts; the first column names the row, columns of figures are set to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[str, ...] = ()
    """Columns that are no figures."""
    folded: bool = True
    """Shown on demand: it repeats a chart."""


def step_grids(trend: Trend | None) -> Iterator[Grid]:
    """Every comparison once, in numbers."""
    if trend is None:
        return
    rows = [
        (
            f"{step.round} against {step.base}", str(step.comparison.verdict), f"{judge.before:.3f}", f"{judge.after:.3f}",
            _signed(judge), f"{step.adjusted_p:.2g}", _signed(evidence.reward, 2) if evidence.reward else "",
            f"{evidence.tasks:,}",
        )
        for step in (*trend.against_parent, *trend.against_first, *trend.against_control)
        for evidence in (step.comparison.evidence,)
        for judge in (evidence.judge,)
    ]  # fmt: skip
    if rows:
        columns = ("comparison", "verdict", "judge before", "after", "judge moved by", "p", "reward moved by", "tasks")
        yield Grid(title="All comparisons", columns=columns, rows=tuple(dict.fromkeys(rows)), words=("verdict",))


def measured_grids(measures: Sequence[Measure], names: Mapping[str, str], title: str) -> Iterator[Grid]:
    """A row for each round, a column for each figure that some round has."""
    found = {(one.round, one.name): one for one in measures}
    columns = [name for name in names if any(key[1] == name for key in found)]
    rounds = list(dict.fromkeys(one.round for one in measures if one.name in columns))
    if columns and rounds:
        yield Grid(
            title=title,
            columns=("round", *(names[name] for name in columns)),
            rows=tuple((one, *(_measure(found.get((one, name))) for name in columns)) for one in rounds),
        )


def policy_grids(figures: Figures) -> Iterator[Grid]:
    """What each policy picked: by the judge where it was asked, else by the reward."""
    title = "What each policy picked"
    judged = tuple(
        (
            name, one.policy, f"{one.judge:.3f}", "" if one.difference is None else _signed(one.difference),
            f"{one.reward:+.2f}", f"{one.tokens:.1f}", f"{one.tasks:,}",
        )
        for name, policies in figures.policies.items()
        for one in policies
    )  # fmt: skip
    if judged:
        columns = ("round", "policy", "judge", "Δ to best-of-N", "reward", "tokens", "tasks")
        yield Grid(title=title, columns=columns, rows=judged, words=("policy",))
    elif figures.picks:
        rows = tuple(
            (one.round, one.policy, _number(one.reward, "+.2f"), _number(one.tokens, ".1f"), f"{one.tasks:,}")
            for one in figures.picks
        )
        yield Grid(title=title, columns=("round", "policy", "reward", "tokens", "tasks"), rows=rows, words=("policy",))


def curve_grids(figures: Figures) -> Iterator[Grid]:
    """The points of the curves."""
    rows = tuple(
        (name, str(step.n), f"{step.kl:.2f}", _spanned(step.judge), _spanned(step.reward, 2), f"{curve.tasks:,}")
        for name, curve in figures.curves.items()
        for step in curve.points
    )
    if rows:
        columns = ("round", "N", "log N − (N − 1) / N", "judge", "reward", "tasks")
        yield Grid(title="Best of N", columns=columns, rows=rows)


def drop_grids(drops: Sequence[Drop]) -> Iterator[Grid]:
    """What became of the attempts, with an example of each."""
    totals: dict[tuple[str, str], int] = {}
    for one in drops:
        totals[one.round, one.origin] = totals.get((one.round, one.origin), 0) + one.attempts
    rows = tuple(
        (
            one.round, one.origin, one.fate, f"{one.attempts:,}", f"{100 * one.attempts / totals[one.round, one.origin]:.1f} %",
            " ".join(one.example.split()),
        )
        for one in drops
    )  # fmt: skip
    if rows:
        columns = ("round", "origin", "fate", "attempts", "share", "the first of them, as it was written")
        yield Grid(title="Attempts by what became of them", columns=columns, rows=rows, words=("origin", "fate", columns[-1]))


def length_grids(lengths: Sequence[Length]) -> Iterator[Grid]:
    """Lengths of candidates and winners."""
    rows = tuple(
        (
            one.round, one.of, f"{one.count:,}", f"{one.mean:.1f}", f"{one.low:.0f} to {one.high:.0f}",
            f"{100 * one.stopped:.1f} %",
        )
        for one in lengths
    )  # fmt: skip
    if rows:
        columns = ("round", "candidates", "count", "mean tokens", "middle four fifths", "ended by themselves")
        yield Grid(title="Length of the candidates", columns=columns, rows=rows, words=("candidates",))


def merge_grid(merge: Merge) -> Grid:
    """A reward model with its members."""
    sets = list(dict.fromkeys(name for part in merge.parts for name in part.accuracy))
    rows = tuple(
        (
            part.name,
            _number(part.weight, "g"),
            "" if part.rows is None else f"{part.rows:,}",
            *(_number(part.accuracy.get(name), ".3f") for name in sets),
            _number(sum(part.accuracy.values()) / len(part.accuracy) if part.accuracy else None, ".3f"),
        )
        for part in merge.parts
    )
    settings = ", ".join(f"{name} {value}" for name, value in merge.settings.items() if value is not None)
    how = f": {merge.method}" + (f" ({settings})" if settings else "") if merge.method else ""
    used = f"{merge.rounds[0]} to {merge.rounds[-1]}" if len(merge.rounds) > 2 else " and ".join(merge.rounds)
    columns = ("model", "weight", "rows", *sets, "average")
    return _without_empty(Grid(title=f"{merge.model_id}{how}; selects in {used}", columns=columns, rows=rows, folded=False))


def stage_grids(stages: Sequence[StageLine]) -> Iterator[Grid]:
    """What each round took, and each stage of it."""
    rounds = {name: [one for one in stages if one.round == name] for name in dict.fromkeys(one.round for one in stages)}
    sums = tuple(
        (
            name, time_of(sum(one.seconds for one in of)), _count(sum(one.prompt_tokens for one in of)),
            _count(sum(one.tokens for one in of)), _cost(sum(one.cost for one in of)),
        )
        for name, of in rounds.items()
    )  # fmt: skip
    if sums:
        columns: tuple[str, ...] = ("round", "time", "tokens read", "tokens written", "cost")
        yield _without_empty(Grid(title="Rounds in sum", columns=columns, rows=sums, folded=False))
        rows = tuple(
            (
                one.round, one.stage, f"{one.rows:,}", _count(one.prompt_tokens), _count(one.tokens), f"{one.seconds:,.1f}",
                f"{one.tokens / one.seconds:,.0f}" if one.tokens and one.seconds else "", _cost(one.cost),
                "" if one.finished else "not finished",
            )
            for one in stages
        )  # fmt: skip
        columns = ("round", "stage", "rows", "tokens read", "tokens written", "seconds", "tokens a second", "cost", "state")
        yield _without_empty(Grid(title="Every stage", columns=columns, rows=rows, words=("stage", "state")))


def _without_empty(grid: Grid) -> Grid:
    """The grid without columns that have nothing in any row."""
    kept = [place for place in range(len(grid.columns)) if any(row[place] for row in grid.rows)]
    rows = tuple(tuple(row[place] for place in kept) for row in grid.rows)
    return replace(grid, columns=tuple(grid.columns[place] for place in kept), rows=rows)


# Numbers as texts


def _measure(one: Measure | None) -> str:
    if one is None:
        return ""
    digits = 0 if one.value == int(one.value) and one.low is None else 3 if abs(one.value) < 10 else 1
    if one.low is None or one.high is None:
        return f"{one.value:,.{digits}f}"
    return f"{one.value:.{digits}f} ({one.low:.{digits}f} to {one.high:.{digits}f})"


def _signed(one: Estimate | Difference, digits: int = 3) -> str:
    return f"{one.value:+.{digits}f} ({one.low:+.{digits}f} to {one.high:+.{digits}f})"


def _spanned(one: Estimate, digits: int = 3) -> str:
    return f"{one.value:.{digits}f} ({one.low:.{digits}f} to {one.high:.{digits}f})"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _count(value: int) -> str:
    return f"{value:,}" if value else ""


def _cost(value: float) -> str:
    return f"{value:,.4f}" if value else ""


def time_of(seconds: float) -> str:
    """A duration in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
