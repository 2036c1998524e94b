"""The forms that the charts have: rows and a width in pixels in, an Altair chart out.

A row has ``name`` (what its colour stands for), ``value``, and ``low`` and ``high`` where there is an interval; ``x`` is the
number of a round, with a little added for what lies beside it. The legend is left out where there is one name only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt

from flywheel.report.page.palette import colour

HEIGHT = 260
ROW = 30
"""Height of a bar or an interval that has a line of its own."""
LETTER, SYMBOL = 7, 36
"""Pixels of a letter and of the symbol in a legend, to know how many entries fit beside each other."""
MOST_TICKS = 12
MOST_BANDS = 3

Rows = Sequence[Mapping[str, Any]]
Tints = Callable[[str], str]


def intervals(rows: Rows, width: int, *, margin: float, tints: Tints) -> Any:
    """A line of its own for each ``label``, with the line of no difference and the band that counts as none."""
    reach = 1.08 * max(margin, *(abs(row[end]) for row in rows for end in ("low", "high")))
    lowest = min(-reach / 4, *(1.08 * row["low"] for row in rows))
    scale = alt.Scale(domain=[lowest, reach], nice=True)
    across = alt.X(
        "value:Q", scale=scale, title="difference of the judge", axis=alt.Axis(format="+.2f", tickCount=5, grid=True)
    )
    low = alt.X("low:Q", scale=scale)
    base = alt.Chart(_data(rows)).encode(
        y=alt.Y("label:N", sort=[row["label"] for row in rows], title=None, axis=alt.Axis(labelLimit=170)),
        color=_colours(_names(rows), tints, width),
    )
    band = alt.Chart(_data([{"low": -margin, "high": margin}])).mark_rect(opacity=0.5, color=colour("grid"))
    zero = alt.Chart(_data([{"value": 0}])).mark_rule(color=colour("axis"))
    drawn = alt.layer(
        band.encode(x=low, x2="high:Q"),
        zero.encode(x=across),
        base.mark_rule(strokeWidth=2.5).encode(x=low, x2="high:Q"),
        base.mark_point(filled=True, size=90, opacity=1).encode(x=across),
    )
    return _fitted(drawn, width, 90 + ROW * len(rows))


def over_rounds(rows: Rows, width: int, *, title: str, tints: Tints, lines: Sequence[str], zero: bool = False) -> Any:
    """Points over the rounds with their intervals, those of the names in ``lines`` joined; ``zero`` draws that line, too."""
    up = _up("value:Q", title)
    base = alt.Chart(_data(rows)).encode(x=_rounds(rows), color=_colours(_names(rows), tints, width))
    joined = base.transform_filter(alt.FieldOneOfPredicate(field="name", oneOf=list(lines)))
    ranged = base.transform_filter("datum.low !== null")
    layers = [
        ranged.mark_rule(strokeWidth=2, opacity=0.55).encode(y=_up("low:Q", title), y2="high:Q"),
        joined.mark_line(strokeWidth=2).encode(y=up),
        base.mark_point(filled=True, size=70, opacity=1).encode(y=up),
    ]
    if zero:
        line = alt.Chart(_data([{"value": 0}])).mark_rule(color=colour("axis"), strokeDash=[4, 3]).encode(y=up)
        layers.insert(0, line)
    return _fitted(alt.layer(*layers), width)


def path(rows: Rows, width: int) -> Any:
    """The rounds as a path, reward along and judge up; a ``turn`` that is false is a control beside it."""
    along, upwards = "reward on held-out tasks", "judge on held-out tasks"
    across = alt.X("reward:Q", title=along, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5, grid=True))
    low, up = alt.X("reward_low:Q", scale=alt.Scale(zero=False)), _up("judge:Q", upwards)
    base = alt.Chart(_data(rows)).encode(
        color=alt.condition("datum.turn", alt.value(colour("judge")), alt.value(colour("random")))
    )
    joined, beside = base.transform_filter("datum.turn"), base.transform_filter("!datum.turn")
    drawn = alt.layer(
        base.mark_rule(opacity=0.45).encode(x=across, y=_up("judge_low:Q", upwards), y2="judge_high:Q"),
        base.mark_rule(opacity=0.45).encode(x=low, x2="reward_high:Q", y=up),
        joined.mark_line(strokeWidth=2).encode(x=across, y=up, order="place:Q", color=alt.value(colour("judge"))),
        base.mark_point(filled=True, size=80, opacity=1).encode(x=across, y=up),
        joined.mark_text(dy=-12, dx=-14, fontWeight="bold").encode(x=across, y=up, text="round:N"),
        beside.mark_text(dy=14, dx=6, align="left").encode(x=across, y=up, text="round:N"),
    )
    return _fitted(drawn, width, 300)


def curve(rows: Rows, width: int, *, title: str, tints: Tints, labels: Mapping[str, float]) -> Any:
    """Lines with a band for the interval; ``labels`` says what is written along x, and where.

    Of more lines than `MOST_BANDS` only the last has its band: they would cover each other.
    """
    names = _names(rows)
    places = list(labels.values())
    written = " : ".join(f"abs(datum.value - {place}) < 1e-9 ? '{label}'" for label, place in labels.items())
    across = alt.X(
        "x:Q",
        title="N, spaced by log N − (N − 1) / N",
        axis=alt.Axis(values=places, labelExpr=f"{written} : ''"),
        scale=alt.Scale(domain=[-0.03 * max(places), 1.03 * max(places)], nice=False),
    )
    base = alt.Chart(_data(rows)).encode(x=across, color=_colours(names, tints, width))
    shown = names if len(names) <= MOST_BANDS else names[-1:]
    banded = base.transform_filter(alt.FieldOneOfPredicate(field="name", oneOf=shown))
    return _fitted(
        alt.layer(
            banded.mark_area(opacity=0.14).encode(y=_up("low:Q", title), y2="high:Q"),
            base.mark_line(strokeWidth=2).encode(y=_up("value:Q", title)),
            base.mark_point(filled=True, size=45, opacity=1).encode(y=_up("value:Q", title)),
        ),
        width,
    )


def stacked(rows: Rows, width: int, *, title: str, tints: Tints, names: Sequence[str]) -> Any:
    """A bar for each ``round``, in parts that come in the order of the names."""
    rounds = list(dict.fromkeys(row["round"] for row in rows))
    drawn = (
        alt.Chart(_data([{**row, "order": names.index(row["name"])} for row in rows]))
        .mark_bar(height={"band": 0.68})
        .encode(
            x=alt.X("sum(value):Q", title=title, axis=alt.Axis(tickCount=5, grid=True, format="~s")),
            y=alt.Y("round:N", sort=rounds, title=None),
            color=_colours(names, tints, width),
            order="order:Q",
        )
    )
    legend = 22 * math.ceil(len(names) / _columns(names, width))
    return _fitted(drawn, width, 70 + legend + ROW * len(rounds))


def _fitted(chart: Any, width: int, height: int = HEIGHT) -> Any:
    """As wide and high as asked for, axes and legend included."""
    return chart.properties(width=width, height=height, autosize=alt.AutoSizeParams(type="fit", contains="padding"))


def _data(rows: Rows) -> Any:
    return alt.Data(values=[dict(row) for row in rows])


def _names(rows: Rows) -> list[str]:
    return list(dict.fromkeys(row["name"] for row in rows))


def _columns(names: Sequence[str], width: int) -> int:
    return max(1, min(len(names), width // (LETTER * max(map(len, names), default=1) + SYMBOL)))


def _colours(names: Sequence[str], tints: Tints, width: int) -> Any:
    scale = alt.Scale(domain=list(names), range=[tints(name) for name in names])
    legend = alt.Legend(columns=_columns(names, width), symbolType="circle", symbolOpacity=1) if len(names) > 1 else None
    return alt.Color("name:N", sort=list(names), scale=scale, legend=legend)


def _rounds(rows: Rows) -> Any:
    """Rounds along x, with room for a control beside each."""
    first, last = (round(end(row["x"] for row in rows)) for end in (min, max))
    every = max(1, math.ceil((last - first + 1) / MOST_TICKS))
    return alt.X(
        "x:Q",
        scale=alt.Scale(domain=[first - 0.35, last + 0.35], nice=False),
        axis=alt.Axis(values=list(range(first, last + 1, every)), labelExpr="'r' + datum.value", title=None),
    )


def _up(field: str, title: str) -> Any:
    return alt.Y(field, title=title, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(tickCount=5))
