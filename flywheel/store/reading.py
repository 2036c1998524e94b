"""Tables for people: the results of their own SQL, the rounds, one round, one task."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from flywheel.core.files import encodable
from flywheel.errors import StoreError, first_line
from flywheel.records import Stage
from flywheel.store.database import connection
from flywheel.store.opening import sql_file

MAX_BYTES = 2**30
"""Memory that the values of a result may take."""
FETCHED_ROWS = 2_000
"""Rows fetched before the size is checked again."""
REFUSED = ("read-only mode", "disabled by configuration", "disabled through configuration", "configuration has been locked")
"""Parts of DuckDB's messages about a statement that writes or that needs other files."""
READS_ONLY = "flywheel sql only reads the database"
READS_ONLY_HINT = "Use --out to write a result to a file. To change the database or read other files, open it with duckdb."


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows with the names of their columns."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def as_dicts(self) -> list[dict[str, Any]]:
        """One dict per row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def query(path: Path, sql: str, values: list[Any] | dict[str, Any] | None = None) -> Table:
    """The result of one SQL statement that only reads; raises StoreError for any other statement, with DuckDB's message."""
    try:
        with connection(path) as db:
            _check_statement(db, sql)
            cursor = db.execute(sql, values or [])
            return Table(columns=_unique(column[0] for column in cursor.description or ()), rows=_fetch(cursor))
    except duckdb.Error as error:
        message, hint = first_line(error), "Correct the statement. `flywheel schema` lists all tables and columns."
        if any(part in message for part in REFUSED):
            message, hint = f"{READS_ONLY} ({message})", READS_ONLY_HINT
        raise StoreError(f"{message} in {_excerpt(sql)}", hint) from None


def _check_statement(db: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raise StoreError unless this is one statement; duckdb.Error if it is not SQL. DuckDB refuses one that writes."""
    if not encodable(sql):
        raise StoreError("the statement is not valid UTF-8", "Remove the invalid bytes, or use a UTF-8 terminal or script.")
    statements = db.extract_statements(sql)
    if len(statements) != 1:
        raise StoreError(f"expected one SQL statement, got {len(statements)}: {_excerpt(sql)}", "Pass exactly one statement.")


def _excerpt(sql: str) -> str:
    """The start of a statement, on one line."""
    return repr(" ".join(sql.split())[:80])


def _fetch(cursor: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    """All rows; raises StoreError if they take more than `MAX_BYTES`."""
    rows: list[tuple[Any, ...]] = []
    size = 0
    while block := cursor.fetchmany(FETCHED_ROWS):
        rows += block
        size += sum(sys.getsizeof(value) for row in block for value in row)
        if size > MAX_BYTES:
            raise StoreError(f"the result is larger than {MAX_BYTES / 1e9:.1f} GB", "Add a LIMIT clause or an aggregate.")
    return rows


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    """Names of columns, with numbers after repeated ones, so that no column hides another."""
    unique: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate in unique:
            candidate, number = f"{name}_{number}", number + 1
        unique.append(candidate)
    return tuple(unique)


def schema(path: Path) -> Table:
    """All tables and views with their columns, types and comments."""
    return query(path, sql_file("schema.sql"))


def rounds_summary(path: Path) -> Table:
    """One row per round."""
    return query(path, "SELECT * FROM rounds_summary")


def stages(path: Path, name: str) -> Table:
    """The stages of a round in order, with rows, tokens and seconds."""
    sql = (
        "SELECT stage, rows, tokens, seconds, finished_at IS NOT NULL AS finished FROM stages WHERE round = ? "
        "ORDER BY list_position(?, stage)"
    )
    return query(path, sql, [name, [str(stage) for stage in Stage]])


def drop_reasons(path: Path, name: str) -> Table:
    """Number of dropped attempts of a round, by origin and reason."""
    sql = "SELECT origin, reason, count(*) AS attempts FROM tasks WHERE round = ? AND NOT kept GROUP BY ALL"
    return query(path, f"{sql} ORDER BY origin DESC, attempts DESC, reason", [name])


def failed_chunks(path: Path, name: str) -> Table:
    """Number of failed chunks of a round, by stage and error."""
    sql = "SELECT stage, error, count(*) AS chunks FROM failed_chunks WHERE round = ? GROUP BY ALL"
    return query(path, f"{sql} ORDER BY stage, chunks DESC, error", [name])


def paraphrases(path: Path, name: str) -> dict[str, int]:
    """Number of paraphrases that a round wrote and kept."""
    sql = "SELECT count(*) AS written, count(*) FILTER (kept) AS kept FROM tasks WHERE round = ? AND origin = 'paraphrased'"
    return query(path, sql, [name]).as_dicts()[0]


def diversity(path: Path, name: str) -> Table:
    """Diversity of the kept tasks of a round; no row if it has none."""
    return query(path, "SELECT * EXCLUDE (round) FROM task_diversity WHERE round = ?", [name])


def policies(path: Path, name: str) -> Table:
    """Mean reward and judge score of each selection policy in a round, highest reward first."""
    return query(path, "SELECT * EXCLUDE (round) FROM policies WHERE round = ? ORDER BY reward DESC", [name])


def task(path: Path, name: str, task_id: str) -> Table:
    """All candidates of a task with their scores, best first; the start of the id is enough if it is unique.

    Raises StoreError if no task, or more than one, has such an id.
    """
    sql = "SELECT DISTINCT task_id FROM tasks WHERE round = ? AND kept AND origin = 'proposed' AND starts_with(task_id, ?)"
    matches = query(path, sql, [name, task_id]).rows if encodable(name + task_id) else []
    if len(matches) != 1:
        condition = f"round = '{name}'" + (f" AND starts_with(task_id, '{task_id}')" if matches else "")
        raise StoreError(
            f"{name} has {len(matches) or 'no'} kept tasks whose id starts with {task_id!r}",
            f'List ids with `flywheel sql "SELECT DISTINCT task_id, instruction FROM generations WHERE {condition}"`.',
        )
    candidates = (
        "SELECT candidate, won, reward, finish_reason, tokens, logprob, output, instruction, input, constraints, task_id, "
        "(SELECT list({'model': m.name, 'score': s.score} ORDER BY m.name) FROM scores AS s JOIN models AS m USING (model_id) "
        " WHERE s.round = g.round AND s.task_id = g.task_id AND s.candidate = g.candidate AND m.kind = 'member') AS members "
        "FROM generations AS g WHERE round = ? AND task_id = ? ORDER BY reward DESC"
    )
    return query(path, candidates, [name, *matches[0]])
