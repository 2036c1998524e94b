"""Tables of the page: a column is a heading and a template that is filled from a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from string import Formatter

from flywheel.store.report_rows import Row

DELTA = "{value:+.3f} ({low:+.3f} to {high:+.3f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of texts whose first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    figures: frozenset[str]
    """Columns of numbers, which are set to the right."""
    folded: bool
    """Shown on demand: a chart shows the same rows."""


def tables(title: str, rows: Iterable[Row], columns: Mapping[str, str], *, folded: bool = True) -> tuple[Table, ...]:
    """A table of rows, without columns that are empty in each; none where there are no rows.

    ``columns`` maps a heading to a template such as ``"{value:.3f}"``, which is empty where a value is missing.
    """
    cells = tuple(dict.fromkeys(tuple(_filled(template, row) for template in columns.values()) for row in rows))
    used = [any(column) for column in zip(*cells, strict=True)]
    return (
        Table(
            title=title,
            columns=tuple(compress(columns, used)),
            rows=tuple(tuple(compress(row, used)) for row in cells),
            figures=frozenset(heading for heading, template in columns.items() if ":" in template),
            folded=folded,
        ),
    ) * bool(cells)


def _filled(template: str, row: Row) -> str:
    names = {name for _, name, _, _ in Formatter().parse(template) if name}
    return "" if any(row.get(name) is None for name in names) else template.format_map(row)


def measure_tables(title: str, measures: Sequence[Row], headings: Mapping[str, str]) -> tuple[Table, ...]:
    """A row for each round, a column for each measure that ``headings`` names."""
    places = {name: f"m{place}" for place, name in enumerate(headings)}
    rounds: dict[str, Row] = {}
    for row in measures:
        if place := places.get(row["name"]):
            rounds.setdefault(row["round"], {"round": row["round"]})[place] = _measure(row)
    return tables(title, rounds.values(), {"round": "{round}"} | {headings[name]: f"{{{places[name]}:}}" for name in places})


def _measure(row: Row) -> str:
    digits = 0 if row["low"] is None and row["value"] == int(row["value"]) else 3 if abs(row["value"]) < 10 else 1
    template = "{value:,.%df}" if row["low"] is None else "{value:.%df} ({low:.%df} to {high:.%df})"
    return template.replace("%d", str(digits)).format_map(row)


def duration(seconds: float) -> str:
    """Seconds in a unit that suits them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
