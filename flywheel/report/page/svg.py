"""Altair's charts as SVG and PNG: on a page in the reader's colours, in a file in the light ones."""

from __future__ import annotations

import json
import re
from typing import Any

import vl_convert

from flywheel.report.page.palette import colour, for_file, for_page

FONT = "Helvetica Neue, Arial, sans-serif"
_ROLES = re.compile(r' (?:aria-[a-z]+|role|pointer-events)="[^"]*"')
_EMPTY = re.compile(r'<path class="(?:background|foreground)" d="(?:M0,0h0v0h0Z)?"(?: display="none")?/>')
_IDS = re.compile(r'(id="|url\(#)')


def as_page_svg(chart: Any, name: str) -> str:
    """An SVG element for a page; ``name`` keeps its ids apart from those of other charts there."""
    drawn = _svg(chart, background=None)
    # The element around it says what it shows; its parts would be read out one by one.
    drawn = _EMPTY.sub("", _ROLES.sub("", drawn))
    return for_page(_IDS.sub(rf"\g<1>{name}-", drawn))


def as_file(chart: Any, form: str) -> bytes:
    """The content of an .svg or .png file."""
    drawn = for_file(_svg(chart, background="#ffffff"))
    return drawn.encode() if form == "svg" else vl_convert.svg_to_png(drawn, scale=2)


def _svg(chart: Any, *, background: str | None) -> str:
    specification = json.loads(chart.to_json(validate=False)) | {"config": _config(background)}
    return str(vl_convert.vegalite_to_svg(specification))


def _config(background: str | None) -> dict[str, Any]:
    text = {"labelFont": FONT, "titleFont": FONT, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
    colours = {"labelColor": colour("muted"), "titleColor": colour("muted")}
    return {
        "aria": False,
        "background": background,
        "padding": 2 if background is None else 14,
        "font": FONT,
        "view": {"stroke": None},
        "axis": text
        | colours
        | {"gridColor": colour("grid"), "domainColor": colour("axis"), "tickColor": colour("axis"), "titlePadding": 8},
        "axisY": {"domain": False, "ticks": False, "labelPadding": 6},
        "axisX": {"grid": False, "labelPadding": 4},
        "legend": text
        | colours
        | {"labelColor": colour("ink"), "orient": "top", "direction": "horizontal", "title": None, "symbolStrokeWidth": 2,
           "symbolSize": 90, "columnPadding": 14, "rowPadding": 4, "labelLimit": 220, "offset": 10},
        "text": {"font": FONT, "fontSize": 12, "fill": colour("ink")},
    }  # fmt: skip
