"""The page as one file that needs no network. What a model wrote is escaped, and a content policy keeps it from acting."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment
from markupsafe import Markup, escape

from flywheel.core.files import write_whole
from flywheel.core.version import __version__
from flywheel.errors import ConfigError, StoreError
from flywheel.report.page.charts import charts_of
from flywheel.report.page.figures import Figures, gather
from flywheel.report.page.forms import page_file, svg
from flywheel.report.page.tables import by_round, cells, duration
from flywheel.report.page.tasks import LIMIT, TaskPage, tasks_of
from flywheel.report.tables import writing
from flywheel.store.store import Store

WIDTHS = {"wide": 520, "narrow": 320}
"""Pixels of the charts on the page, in a column and on a phone."""
FILE_WIDTH = 640
"""Pixels of a chart in a file of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The files that `flywheel report` wrote."""

    out: Path
    size: int
    tasks: int
    answered: int
    """Tasks that have candidates."""
    charts: tuple[Path, ...]


def write_report(store: Store, out: Path, *, tasks: int | None = None, charts: Path | None = None) -> Written:
    """Write the page, with at most ``tasks`` tasks per round, and its charts as SVG and PNG into a folder where one is named.

    Raises StoreError where there is no round, ConfigError where a file cannot be written.
    """
    if not out.name or out.is_dir():
        raise ConfigError(f"{out} is a folder", "Pass a file, such as report.html.")
    if not store.rounds(controls=True):
        raise StoreError(f"{store.path} has no rounds", "Run `flywheel round` first.")
    figures, task_page, files = gather(store), tasks_of(store.path, limit=tasks), list[Path]()
    drawings = charts_of(figures)
    page = render(figures, drawings, task_page, name=store.path.parent.name)
    with writing(out, "--out"):
        write_whole(out, page)
    if charts is not None:
        with writing(charts, "--charts"):
            charts.mkdir(parents=True, exist_ok=True)
            for name, chart in drawings.items():
                image = svg(chart, FILE_WIDTH, page=False)
                files += [charts / f"{name}.svg", charts / f"{name}.png"]
                files[-2].write_text(image, encoding="utf-8")
                files[-1].write_bytes(vl_convert.svg_to_png(image, scale=2))
    shown, answered = sum(task_page.shown.values()), sum(task_page.answered.values())
    return Written(out=out, size=len(page.encode()), tasks=shown, answered=answered, charts=tuple(files))


def render(figures: Figures, charts: Mapping[str, Any], tasks: TaskPage, *, name: str) -> str:
    """The page as HTML."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"code": _code, "digest": _digest, "cells": cells, "by_round": by_round, "duration": duration}
    return environment.from_string(page_file("page.jinja")).render(
        name=name,
        version=__version__,
        now=datetime.now(UTC),
        style=Markup(page_file("page.css")),
        script=Markup(page_file("page.js")),
        figures=figures,
        drawings={
            chart_name: {size: Markup(svg(chart, width, page=True)) for size, width in WIDTHS.items()}
            for chart_name, chart in charts.items()
        },
        tasks=tasks,
        megabytes=LIMIT // 1_000_000,
    )


def _digest(text: str) -> str:
    """The source of a text in a content policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _code(text: str) -> Markup:
    """A text whose parts between backticks are code."""
    return Markup(re.sub("`(.*?)`", r"<code>\1</code>", escape(text)))
