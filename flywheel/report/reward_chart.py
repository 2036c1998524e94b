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
    """Accuracy of every scorer on every set with its interval; below it, accuracy against time for each depth."""
    names = [scorer.name for scorer in report.scorers]
    rows = [
        {"scorer": scorer.name, "set": name, "accuracy": accuracy.value, "low": accuracy.low, "high": accuracy.high}
        for scorer in report.scorers
        for name, accuracy in scorer.accuracy.items()
    ]
    lowest = min(accuracy.low for scorer in report.scorers for accuracy in scorer.accuracy.values())
    scale = alt.Scale(domain=[min(0.4, lowest), 1.0])
    base = _chart(rows, width=220, height=22 * len(names)).encode(y=alt.Y("scorer:N", sort=names, title=None))
    interval = base.mark_rule(color="#888").encode(x=alt.X("low:Q", scale=scale, title="accuracy"), x2="high:Q")
    point = base.mark_circle(size=70, opacity=1).encode(
        x=alt.X("accuracy:Q", scale=scale),
        color=alt.condition(alt.datum.scorer == "merged", alt.value("#c0392b"), alt.value("#2c5f8a")),
    )
    accuracies = alt.layer(interval, point).facet(column=alt.Column("set:N", title=None, sort=list(report.sets)))
    if not report.depths:
        return accuracies
    depths = [
        {"layers": depth.layers, "average accuracy": depth.average, "seconds per 1,000 texts": depth.seconds_per_1000}
        for depth in report.depths
    ]
    line = _chart(depths, width=360, height=200).encode(
        x=alt.X("seconds per 1,000 texts:Q", scale=alt.Scale(zero=True)),
        y=alt.Y("average accuracy:Q", scale=alt.Scale(zero=False)),
    )
    by_depth = line.mark_line(color="#2c5f8a") + line.mark_circle(size=70, color="#2c5f8a", opacity=1)
    return alt.vconcat(accuracies, by_depth + line.mark_text(dy=-12).encode(text="layers:Q"))


def _chart(rows: list[dict[str, Any]], *, width: int, height: int) -> Any:
    return alt.Chart(alt.Data(values=rows), width=width, height=height)


def save_chart(chart: Any, path: Path) -> None:
    """Write a chart as .png or .svg; raises ConfigError if the file cannot be written."""
    with writing(path, "--chart"):
        if path.suffix == ".svg":
            path.write_text(vl_convert.vegalite_to_svg(chart.to_json()), encoding="utf-8")
        else:
            path.write_bytes(vl_convert.vegalite_to_png(chart.to_json(), scale=2))
