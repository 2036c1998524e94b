"""Tables of the page: a column is a heading and a template that is filled from a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import compress

from flywheel.store.report_rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The texts of a table; the first of a row names it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    figures: frozenset[str]
    """Columns of numbers, which are set to the right."""


def cells(rows: Iterable[Row], columns: Mapping[str, str]) -> Cells:
    """Rows as texts, without repeated rows and without columns that are empty in each.

    ``columns`` maps a heading to a template such as ``"{value:.3f}"``, which is empty where a value is missing.
    """
    texts = tuple(dict.fromkeys(tuple(_filled(template, row) for template in columns.values()) for row in rows))
    used = [any(column) for column in zip(*texts, strict=True)]
    return Cells(
        columns=tuple(compress(columns, used)),
        rows=tuple(tuple(compress(row, used)) for row in texts),
        figures=frozenset(heading for heading, template in columns.items() if ":" in template),
    )


def _filled(template: str, row: Row) -> str:
    try:
        return template.format_map(row)
    except (KeyError, TypeError):  # no such value, or None, which has no format
        return ""


def by_round(measures: Iterable[Row], names: Mapping[str, str]) -> Cells:
    """A row for each round, a column for each heading in ``names``, which maps it to the name of a measure."""
    texts: dict[str, dict[str, str]] = {}
    for row in measures:
        if row["name"] in names.values():
            texts.setdefault(row["round"], {})[row["name"]] = _measure(row)
    rows = [{"round": round_, "measures": values} for round_, values in texts.items()]
    return cells(rows, {"round": "{round}"} | {heading: f"{{measures[{name}]:}}" for heading, name in names.items()})


def _measure(row: Row) -> str:
    digits = 0 if row["low"] is None and row["value"] == int(row["value"]) else 3 if abs(row["value"]) < 10 else 1
    template = "{value:,.%df}" if row["low"] is None else "{value:.%df} ({low:.%df} to {high:.%df})"
    return template.replace("%d", str(digits)).format_map(row)


def duration(seconds: float) -> str:
    """Seconds in a unit that suits them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def brief(count: int) -> str:
    """A large count in thousands, millions or billions."""
    for limit, size, unit in ((1e9, 1e9, "B"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if count >= limit:
            return f"{count / size:.1f} {unit}"
    return f"{count:,}"
