"""The chart of `flywheel reward eval`, as PNG or SVG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt
import vl_convert

from flywheel.report.tables import writing

if TYPE_CHECKING:
    from flywheel.reward.report import RewardReport


def reward_chart(report: RewardReport) -> Any:
    """Accuracy of every scorer on every set, with its interval."""
    names = [scorer.name for scorer in report.scorers]
    rows = [
        {"scorer": scorer.name, "set": name, "accuracy": accuracy.value, "low": accuracy.low, "high": accuracy.high}
        for scorer in report.scorers
        for name, accuracy in scorer.accuracy.items()
    ]
    lowest = min(accuracy.low for scorer in report.scorers for accuracy in scorer.accuracy.values())
    scale = alt.Scale(domain=[min(0.4, lowest), 1.0])
    base = alt.Chart(alt.Data(values=rows), width=220, height=22 * len(names)).encode(
        y=alt.Y("scorer:N", sort=names, title=None)
    )
    interval = base.mark_rule(color="#888").encode(x=alt.X("low:Q", scale=scale, title="accuracy"), x2="high:Q")
    point = base.mark_circle(size=70, opacity=1).encode(
        x=alt.X("accuracy:Q", scale=scale),
        color=alt.condition(alt.datum.scorer == "merged", alt.value("#c0392b"), alt.value("#2c5f8a")),
    )
    return alt.layer(interval, point).facet(column=alt.Column("set:N", title=None, sort=list(report.sets)))


def save_chart(chart: Any, path: Path) -> None:
    """Write a chart as .png or .svg; raises ConfigError if the file cannot be written."""
    with writing(path, "--chart"):
        if path.suffix == ".svg":
            path.write_text(vl_convert.vegalite_to_svg(chart.to_json()), encoding="utf-8")
        else:
            path.write_bytes(vl_convert.vegalite_to_png(chart.to_json(), scale=2))
