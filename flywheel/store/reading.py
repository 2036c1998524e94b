"""What people ask of the store: their own SQL, the rounds at a glance, one round, one task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from flywheel.errors import StoreError, first_line
from flywheel.records import Stage
from flywheel.store.database import connection
from flywheel.store.guard import WRITES, check_statement, fetch
from flywheel.store.lacking import refuse_lacking
from flywheel.store.opening import of_the_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows with the names of their columns."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def as_dicts(self) -> list[dict[str, Any]]:
        """One dict a row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def as_arrow(self) -> Any:
        """The rows as a `pyarrow.Table`, with the types that Arrow infers."""
        import pyarrow

        return pyarrow.Table.from_pylist(self.as_dicts()) if self.rows else pyarrow.table({name: [] for name in self.columns})


def query(path: Path, sql: str, values: list[Any] | dict[str, Any] | None = None) -> Table:
    """Run one SQL statement that reads; raises StoreError with DuckDB's own words for anything else."""
    with connection(path) as db:
        try:
            check_statement(db, sql)
            cursor = db.execute(sql, values or [])
            return Table(columns=_distinct(column[0] for column in cursor.description or ()), rows=fetch(cursor))
        except duckdb.Error as error:
            if of_the_file(error) or isinstance(error, duckdb.OutOfMemoryException):
                raise  # in the words of `connection`
            if isinstance(error, duckdb.BinderException | duckdb.CatalogException):
                refuse_lacking(db, path)
            text = first_line(error)
            if "read-only mode" in text:
                text = WRITES
            elif "disabled by configuration" in text:
                text += "; flywheel sql reads only this database, --out writes what it finds to a file"
            raise StoreError(f"{text} (in: {' '.join(sql.split())[:80]})") from None


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Names of columns, the second and later ones of a name numbered, so that no column hides another."""
    found: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate in found:
            candidate, number = f"{name}_{number}", number + 1
        found.append(candidate)
    return tuple(found)


def schema(path: Path) -> Table:
    """Every table and view with its columns, their types and what they mean."""
    return query(
        path,
        """
        SELECT t.name AS "table", t.comment AS meaning, c.column_name AS "column", c.data_type AS type, c.comment AS about
        FROM (
            SELECT table_name AS name, comment FROM duckdb_tables() WHERE NOT internal
            UNION ALL
            SELECT view_name, comment FROM duckdb_views() WHERE NOT internal
        ) AS t
        JOIN duckdb_columns() AS c ON c.table_name = t.name AND NOT c.internal
        ORDER BY t.name, c.column_index
        """,
    )


def rounds_summary(path: Path) -> Table:
    """One line a round."""
    return query(path, "SELECT * FROM rounds_summary")


def stages(path: Path, name: str) -> Table:
    """The stages of a round in their order, with rows, tokens and seconds."""
    return query(
        path,
        "SELECT stage, rows, tokens, seconds, finished_at IS NOT NULL AS finished FROM stages WHERE round = ? "
        "ORDER BY list_position(?, stage)",
        [name, [str(stage) for stage in Stage]],
    )


def drop_reasons(path: Path, name: str) -> Table:
    """How many attempts of a round were dropped, by origin and reason."""
    return query(
        path,
        "SELECT origin, reason, count(*) AS attempts FROM tasks WHERE round = ? AND NOT kept GROUP BY origin, reason "
        "ORDER BY origin DESC, attempts DESC, reason",
        [name],
    )


def failed_chunks(path: Path, name: str) -> Table:
    """Chunks of a round that could not be done, by stage and error."""
    return query(
        path,
        "SELECT stage, error, count(*) AS chunks FROM failed_chunks WHERE round = ? GROUP BY stage, error "
        "ORDER BY stage, chunks DESC, error",
        [name],
    )


def paraphrases(path: Path, name: str) -> dict[str, int]:
    """How many paraphrases a round wrote and kept."""
    (row,) = query(
        path,
        "SELECT count(*) AS written, count(*) FILTER (kept) AS kept FROM tasks WHERE round = ? AND origin = 'paraphrased'",
        [name],
    ).as_dicts()
    return row


def diversity(path: Path, name: str) -> Table:
    """How unlike each other the kept tasks of a round are; no row where it proposed none."""
    return query(path, "SELECT * EXCLUDE (round) FROM task_diversity WHERE round = ?", [name])


def policies(path: Path, name: str) -> Table:
    """Mean reward of what each policy picked in a round, highest first."""
    return query(
        path,
        "SELECT * EXCLUDE (round) FROM policies WHERE round = ? ORDER BY reward DESC",
        [name],
    )


def task(path: Path, name: str, task_id: str) -> Table:
    """All candidates of a task with their scores, best first; the id may be cut short where it stays unique."""
    found = query(
        path,
        "SELECT DISTINCT task_id FROM tasks WHERE round = ? AND kept AND origin = 'proposed' AND starts_with(task_id, ?)",
        [name, task_id],
    ).rows
    if len(found) != 1:
        raise StoreError(
            f"{name} has {'no task' if not found else f'{len(found)} tasks'} whose id begins with {task_id!r}; "
            f"see `flywheel sql \"SELECT task_id, instruction FROM tasks WHERE round = '{name}' AND kept\"`"
        )
    return query(
        path,
        "SELECT candidate, won, reward, finish_reason, tokens, logprob, output, instruction, input, constraints, task_id, "
        "(SELECT list({'model': m.name, 'score': s.score} ORDER BY m.name) FROM scores AS s JOIN models AS m USING (model_id) "
        " WHERE s.round = g.round AND s.task_id = g.task_id AND s.candidate = g.candidate AND m.kind = 'member') AS members "
        "FROM generations AS g WHERE round = ? AND task_id = ? ORDER BY reward DESC",
        [name, found[0][0]],
    )


def models(path: Path, kind: str) -> Table:
    """Recorded models of a kind with their facts, oldest first."""
    return query(path, "SELECT model_id, name, path, facts FROM models WHERE kind = ? ORDER BY created_at", [kind])
