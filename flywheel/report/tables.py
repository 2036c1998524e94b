"""Rows as text, CSV, JSON and Parquet: on stdout or in a file."""

from __future__ import annotations

import csv
import datetime
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from flywheel.core.safe_text import visible, visible_json
from flywheel.errors import ConfigError
from flywheel.store.reading import Table

CELL = 200
"""Longest text of a cell on a terminal, in characters."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a text that a spreadsheet takes for a formula."""
NUMBER = re.compile(r"[+-]\d+([.,]\d+)?")


def print_table(table: Table, *, title: str | None = None, right: Sequence[str] = ()) -> None:
    """A table on stdout, as wide as its texts where stdout is not a terminal; ``right`` names columns to right-align."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000)
    shown = RichTable(title=title and Text(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(table.columns):
        numeric = name in right or _is_numeric([row[place] for row in table.rows])
        shown.add_column(Text(visible(name)), justify="right" if numeric else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(cell(value)) for value in row))
    with console.capture() as capture:
        console.print(shown)
    typer.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None) -> None:
    """Rows as a table on stdout."""
    print_table(Table(columns=tuple(columns), rows=[tuple(row) for row in rows]), title=title)


def _is_numeric(column: Sequence[Any]) -> bool:
    """Whether a column has numbers, or nothing but numbers with a sign such as +0.022."""
    values = [value for value in column if value is not None]
    signed = bool(values) and all(isinstance(value, str) and NUMBER.fullmatch(value) for value in values)
    return signed or any(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def print_json(value: Any) -> None:
    """A value as JSON on stdout."""
    typer.echo(as_json(value))


def as_json(value: Any) -> str:
    """Standard JSON: NaN and infinity become null."""
    return visible_json(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def _plain(value: Any) -> Any:
    # Not by pydantic, which refuses the half surrogate pairs that a model may write.
    match value:
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case float():
            return value if math.isfinite(value) else None
        case str() | int() | None:
            return value
        case bytes():
            return value.hex()
    return value.isoformat() if isinstance(value, datetime.date) else str(value)


def print_line(text: str = "") -> None:
    """One or more lines on stdout."""
    typer.echo(visible(text, keep="\n"))


def counts(by_reason: Mapping[str, int]) -> str:
    """Counts by reason, such as ``3 too long, 1 empty``."""
    return ", ".join(f"{count:,} {reason}" for reason, count in by_reason.items())


def cell(value: Any) -> str:
    """A value as a cell of a table, cut at `CELL` characters."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value) if not isinstance(value, list | dict) else json.dumps(_plain(value))
    # A model's output may contain line ends and terminal codes: they are shown, not obeyed.
    text = visible(text[: CELL + 1])
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def print_as(table: Table, form: str, out: Path | None) -> None:
    """A table as text, csv, json or parquet, on stdout or in a file, whose suffix decides where ``form`` is table."""
    if out is not None:
        if form == "table":
            form = {".parquet": "parquet", ".json": "json"}.get(out.suffix, "csv")
        with writing(out, "--out"):
            if form == "parquet":
                from pyarrow import parquet

                parquet.write_table(as_arrow(table), out)
            else:
                out.write_text(_as_text(table, form), encoding="utf-8")
    elif form == "parquet":
        raise ConfigError("--format parquet needs --out", "Add a file, such as --out rows.parquet.")
    elif form == "table":
        print_table(table)
    else:
        text = _as_text(table, form)
        typer.echo(visible(text, keep="\n") if sys.stdout.isatty() else text, nl=False)


def _as_text(table: Table, form: str) -> str:
    if form == "json":
        return as_json(table.as_dicts()) + "\n"
    lines, rows = _Lines(), [table.columns, *table.rows]
    # A spreadsheet shows a text with a leading ' and does not run it.
    csv.writer(lines).writerows([f"'{value}" if _is_formula(value) else value for value in row] for row in rows)
    if formulas := sum(_is_formula(value) for row in rows for value in row):
        typer.echo(
            f"added a leading ' to {formulas:,} texts that look like formulas; --format json keeps them as they are", err=True
        )
    return "".join(lines)


def _is_formula(value: Any) -> bool:
    """Whether a spreadsheet would take a text for a formula."""
    return isinstance(value, str) and value.startswith(FORMULA) and not NUMBER.fullmatch(value)


class _Lines(list[str]):
    """Collects the lines of a csv writer with \\n at their ends; with \\r\\n the writer also quotes carriage returns."""

    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


def as_arrow(table: Table) -> Any:
    """The rows as a `pyarrow.Table`; a column that Arrow has no type for becomes texts."""
    import pyarrow as pa

    def column(values: Sequence[Any]) -> pa.Array:
        try:
            array = pa.array(values)
            return pa.array(list(map(str, values))) if array.type == pa.struct([]) else array  # Parquet has no empty struct.
        except (pa.ArrowException, OverflowError, TypeError, ValueError):  # 128-bit numbers, mixed types
            return pa.array([None if value is None else str(value) for value in values])

    columns = [column(values) for values in zip(*table.rows, strict=True)] or [pa.array([])] * len(table.columns)
    return pa.table(dict(zip(table.columns, columns, strict=True)))


@contextmanager
def writing(path: Path, option: str) -> Iterator[None]:
    """Raises ConfigError where a file that an option names, or one in a folder that it names, cannot be written."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}", f"Choose another path with {option}.") from None


def print_schema(table: Table) -> None:
    """Tables and views with their descriptions and columns."""
    rows = table.as_dicts()
    for name in dict.fromkeys(row["table"] for row in rows):
        columns = [row for row in rows if row["table"] == name]
        print_line(f"{name}: {columns[0]['meaning'] or ''}")
        print_rows(("", "", ""), [(f"  {row['column']}", row["type"], row["about"] or "") for row in columns])
        print_line()
