"""Tables of the page: a column is a heading and a template that is filled from a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import compress

from flywheel.store.report_rows import Row


def cells(rows: Iterable[Row], columns: Mapping[str, str]) -> tuple[dict[str, bool], list[tuple[str, ...]]]:
    """The headings of a table, each with whether its column has numbers, and the rows as texts.

    ``columns`` maps a heading to a template such as ``"{value:.3f}"``, which is empty where a value is missing. Repeated rows
    and columns that are empty in each row are left out.
    """
    texts = list(dict.fromkeys(tuple(_filled(template, row) for template in columns.values()) for row in rows))
    used = [any(column) for column in zip(*texts, strict=True)]
    headings = {heading: ":" in template for heading, template in compress(columns.items(), used)}
    return headings, [tuple(compress(row, used)) for row in texts]


def _filled(template: str, row: Row) -> str:
    try:
        return template.format_map(row)
    except (KeyError, TypeError):  # no such value, or None, which has no format
        return ""


def by_round(measures: Iterable[Row], names: Mapping[str, str]) -> tuple[dict[str, bool], list[tuple[str, ...]]]:
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
