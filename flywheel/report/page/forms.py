"""The forms of the charts, as Altair charts of rows; their look is the Vega-Lite config in `charts.yaml`.

A colour is a custom property of the page's style sheet, so that a chart follows the reader's theme; in a file of its own it is
the property's light value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import altair as alt
import vl_convert
import yaml

from flywheel.store.report_rows import Row

MOST_BANDS = 3
"""Of more lines than this, only the last has its band: they would cover each other."""
_LEGEND_ENTRY = 128
"""Pixels of an entry in a legend."""


def page_file(name: str) -> str:
    """The text of a file beside this module."""
    return files("flywheel.report.page").joinpath(name).read_text(encoding="utf-8")


def svg(chart: Any, width: int, *, page: bool) -> str:
    """A chart of some width in pixels as SVG, for the page or for a file of its own."""
    config = yaml.safe_load(page_file("charts.yaml"))
    config["view"] |= {"continuousWidth": width, "discreteWidth": width}
    config["legend"]["columns"] = max(2, width // _LEGEND_ENTRY)
    config |= {"background": None, "padding": 2} if page else {"background": "#ffffff", "padding": 14}
    drawn = str(vl_convert.vegalite_to_svg(chart.to_dict(validate=False) | {"config": config}))
    if page:
        return drawn
    light = dict(re.findall(r"--([\w-]+): light-dark\((#\w+),", page_file("page.css")))
    return re.sub(r"var\(--([\w-]+)\)", lambda match: light[match[1]], drawn)


def intervals(rows: Sequence[Row], *, margin: float) -> Any:
    """A line of its own for each ``pair``, coloured by ``verdict``, on the band that counts as flat."""
    across = alt.X("value:Q", title="Δ judge", scale=alt.Scale(zero=True), axis=alt.Axis(format="+.2f"))
    colours = {row["verdict"]: row["verdict"] for row in rows}
    base = _chart(rows).encode(y=alt.Y("pair:N", sort=None, title=None), color=_colour("verdict", colours))
    band = _chart([{"low": -margin, "high": margin}]).mark_rect(opacity=0.5, color="var(--grid)")
    return alt.layer(
        band.encode(x="low:Q", x2="high:Q"),
        _chart([{"value": 0}]).mark_rule(color="var(--axis)", strokeWidth=1).encode(x=across),
        base.mark_rule().encode(x="low:Q", x2="high:Q"),
        base.mark_point(size=90).encode(x=across),
    )


def over_rounds(rows: Sequence[Row], title: str, field: str, colours: Mapping[str, str], *, lines: Sequence[str]) -> Any:
    """Points with intervals over the rounds, a colour for each value of ``field``.

    The values in ``lines`` are joined. Where there are none, the points are differences, and a line marks zero.
    """
    up = alt.Y("value:Q", title=title)
    base = _chart(rows).encode(
        x=alt.X("number:O", title=None, axis=alt.Axis(labelExpr="'r' + datum.label")),
        color=_colour(field, colours),
    )
    if len(colours) > 1 and any(row["low"] is not None for row in rows):
        base = base.encode(
            xOffset=alt.XOffset(f"{field}:N", sort=list(colours), scale=alt.Scale(paddingInner=0, paddingOuter=0.5))
        )
    joined = base.transform_filter(alt.FieldOneOfPredicate(field=field, oneOf=list(lines)))
    return alt.layer(
        *([_chart([{"value": 0}]).mark_rule(color="var(--axis)", strokeWidth=1, strokeDash=[4, 3]).encode(y=up)] * (not lines)),
        base.mark_rule(opacity=0.55).encode(y=alt.Y("low:Q", title=title), y2="high:Q"),
        joined.mark_line().encode(y=up),
        base.mark_point().encode(y=up),
    )


def path(rows: Sequence[Row]) -> Any:
    """Judge by reward, with the rounds joined in order and the controls beside them."""
    across, up = alt.X("reward:Q", title="reward on held-out tasks", axis=alt.Axis(grid=True)), alt.Y("judge:Q", title="judge")
    base = _chart(rows).encode(color=alt.condition("datum.turn", alt.value("var(--judge)"), alt.value("var(--random)")))
    turns = base.transform_filter("datum.turn")
    return alt.layer(
        base.mark_rule(opacity=0.45).encode(x=across, y=alt.Y("judge_low:Q", title="judge"), y2="judge_high:Q"),
        base.mark_rule(opacity=0.45).encode(x="reward_low:Q", x2="reward_high:Q", y=up),
        turns.mark_line().encode(x=across, y=up, order="number:Q"),
        base.mark_point(size=80).encode(x=across, y=up),
        turns.mark_text(dy=-12, dx=-14).encode(x=across, y=up, text="round:N"),
        base.transform_filter("!datum.turn").mark_text(dy=14, dx=6, align="left").encode(x=across, y=up, text="round:N"),
    ).properties(height=270)


def curves(rows: Sequence[Row], field: str) -> Any:
    """A best-of-N curve for each round, the newest darkest, over N on a logarithmic scale."""
    rounds, most = list(dict.fromkeys(row["round"] for row in rows)), max(row["n"] for row in rows)
    colours = {name: f"round-{min(5, len(rounds) - place - 1)}" for place, name in enumerate(rounds)}
    ticks = [1 << place for place in range(most.bit_length())] + [most] * (most & (most - 1) != 0)
    scale = alt.Scale(type="log", base=2, nice=False, domainMin=1, domainMax=most, padding=12)
    base = _chart(rows).encode(
        x=alt.X("n:Q", title="N (logarithmic)", scale=scale, axis=alt.Axis(values=ticks, format="d")),
        color=_colour("round", colours),
    )
    shown = rounds if len(rounds) <= MOST_BANDS else rounds[-1:]
    banded = base.transform_filter(alt.FieldOneOfPredicate(field="round", oneOf=shown))
    return alt.layer(
        banded.mark_area().encode(y=alt.Y(f"{field}_low:Q", title=field), y2=f"{field}_high:Q"),
        base.mark_line().encode(y=alt.Y(f"{field}:Q", title=field)),
        base.mark_point(size=45).encode(y=alt.Y(f"{field}:Q", title=field)),
    )


def stacked(rows: Sequence[Row], value: str, field: str, colours: Mapping[str, str]) -> Any:
    """A bar for each round, in parts that come in the order of the colours."""
    names = list(colours)
    across = alt.X(f"sum({value}):Q", title=value, scale=alt.Scale(zero=True), axis=alt.Axis(format="~s"))
    parts = [{name: row[name] for name in ("round", value, field)} | {"order": names.index(row[field])} for row in rows]
    bars = _chart(parts).mark_bar()
    return bars.encode(x=across, y=alt.Y("round:N", sort=None, title=None), order="order:Q", color=_colour(field, colours))


def _chart(rows: Iterable[Row]) -> Any:
    return alt.Chart(alt.Data(values=list(rows)))


def _colour(field: str, colours: Mapping[str, str]) -> Any:
    """Custom properties by value of the field; one value needs no legend."""
    scale = alt.Scale(domain=list(colours), range=[f"var(--{name})" for name in colours.values()])
    legend = alt.Undefined if len(colours) > 1 else None
    return alt.Color(f"{field}:N", sort=list(colours), scale=scale, legend=legend)
