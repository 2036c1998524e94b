"""The page as one file that needs no network and lets nothing that a model wrote act: escaped, and under a strict policy."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape

from flywheel.core.files import write_whole
from flywheel.core.version import __version__
from flywheel.errors import ConfigError, StoreError
from flywheel.report.page.charts import NARROW, WIDE, Chart, charts_of
from flywheel.report.page.figures import Figures, gather
from flywheel.report.page.palette import custom_properties
from flywheel.report.page.sections import headlines_of, sections_of, tiles_of
from flywheel.report.page.svg import as_file, as_page_svg
from flywheel.report.page.tasks import LIMIT, TaskPage, tasks_of
from flywheel.store.store import Store

FILE_WIDTH = 640
"""Width of a chart in a file of its own, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What `flywheel report` has made."""

    out: Path
    size: int
    tasks: int
    of: int
    charts: tuple[Path, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"out": str(self.out), "charts": [str(path) for path in self.charts]}


def write_report(store: Store, out: Path, *, most: int | None = None, folder: Path | None = None, form: str = "svg") -> Written:
    """Write the page, and its charts into a folder where one is named; ``most`` is the number of tasks a round to carry.

    Raises StoreError where there is no round to show, ConfigError where a file cannot be written.
    """
    if not store.rounds(controls=True):
        raise StoreError(f"{store.path} has no round to report on; make one with `flywheel round`")
    figures, tasks = gather(store), tasks_of(store.path, most=most)
    charts = charts_of(figures)
    page = render(figures, charts, tasks, name=store.path.parent.name)
    _writable(out, lambda: write_whole(out, page), "--out")
    saved = () if folder is None else _save(charts, folder, form)
    return Written(
        out=out,
        size=len(page.encode()),
        tasks=sum(one.tasks for one in tasks.sampled),
        of=sum(one.of for one in tasks.sampled),
        charts=saved,
    )


def _save(charts: Mapping[str, Chart], folder: Path, form: str) -> tuple[Path, ...]:
    saved = {folder / f"{name}.{form}": as_file(chart.draw(FILE_WIDTH), form) for name, chart in charts.items()}
    _writable(folder, lambda: folder.mkdir(parents=True, exist_ok=True), "--charts")
    for path, content in saved.items():
        _writable(path, lambda path=path, content=content: path.write_bytes(content), "--charts")
    return tuple(saved)


def _writable(path: Path, write: Any, option: str) -> None:
    try:
        write()
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; choose another {option}") from None


def render(figures: Figures, charts: Mapping[str, Chart], tasks: TaskPage, *, name: str) -> str:
    """The page as HTML."""
    style = _file("page.css").replace("/* colours */", custom_properties())
    script = _file("page.js")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["code"] = _code
    return environment.from_string(_file("page.jinja")).render(
        name=name,
        version=__version__,
        made=datetime.now(UTC),
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        figures=figures,
        tiles=tiles_of(figures),
        headlines=headlines_of(figures),
        sections=sections_of(figures, charts),
        drawn={
            one.name: {
                "wide": Markup(as_page_svg(one.draw(WIDE), f"{one.name}-wide")),
                "narrow": Markup(as_page_svg(one.draw(NARROW), f"{one.name}-narrow")),
            }
            for one in charts.values()
        },
        tasks=tasks,
        limit=LIMIT,
        data=Markup(tasks.json),
    )


def _file(name: str) -> str:
    return files("flywheel.report.page").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Only this style and this script, known by their digests: no other may run, and nothing may be fetched or sent."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _code(text: str) -> Markup:
    """A text whose parts between backticks are code."""
    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(Markup(f"<code>{part}</code>") if place % 2 else part for place, part in enumerate(parts))
