"""Charts as PNG or SVG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt
import vl_convert

from flywheel.errors import ConfigError

if TYPE_CHECKING:
    from flywheel.reward.report import RewardReport


def reward_chart(report: RewardReport) -> Any:
    """Accuracy of every scorer on every set with its interval; below it, accuracy against time for each depth."""
    names = [one.name for one in report.scorers]
    rows = [
        {"scorer": one.name, "set": name, "accuracy": found.value, "low": found.low, "high": found.high}
        for one in report.scorers
        for name, found in one.accuracy.items()
    ]
    scale = alt.Scale(domain=[min([0.4, *(found.low for one in report.scorers for found in one.accuracy.values())]), 1.0])
    base = alt.Chart(_values(rows), width=220, height=22 * len(names)).encode(y=alt.Y("scorer:N", sort=names, title=None))
    interval = base.mark_rule(color="#888").encode(x=alt.X("low:Q", scale=scale, title="accuracy"), x2="high:Q")
    point = base.mark_circle(size=70, opacity=1).encode(
        x=alt.X("accuracy:Q", scale=scale),
        color=alt.condition(alt.datum.scorer == "merged", alt.value("#c0392b"), alt.value("#2c5f8a")),
    )
    accuracies = alt.layer(interval, point).facet(column=alt.Column("set:N", title=None, sort=list(report.sets)))
    if not report.depths:
        return accuracies
    depths = [
        {"layers": one.layers, "average accuracy": one.average, "seconds per 1,000 texts": one.seconds_per_1000}
        for one in report.depths
    ]
    line = alt.Chart(_values(depths), width=360, height=200).encode(
        x=alt.X("seconds per 1,000 texts:Q", scale=alt.Scale(zero=True)),
        y=alt.Y("average accuracy:Q", scale=alt.Scale(zero=False)),
    )
    drawn = line.mark_line(color="#2c5f8a") + line.mark_circle(size=70, color="#2c5f8a", opacity=1)
    return alt.vconcat(accuracies, drawn + line.mark_text(dy=-12).encode(text="layers:Q"))


def _values(rows: list[dict[str, Any]]) -> Any:
    return alt.Data(values=rows)


def save_chart(chart: Any, path: Path) -> None:
    """Write a chart as .png or .svg; raises ConfigError where the file cannot be written."""
    try:
        if path.suffix == ".svg":
            path.write_text(vl_convert.vegalite_to_svg(chart.to_json()), encoding="utf-8")
        else:
            path.write_bytes(vl_convert.vegalite_to_png(chart.to_json(), scale=2))
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; choose another --chart") from None
