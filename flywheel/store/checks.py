"""Checks that the rows of a database fit together. Each check is a query that returns one line per problem.

All checks run in one connection, so they see the rows of one instant; a running round waits in the meantime.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from flywheel.errors import StoreError, first_line
from flywheel.store.database import connection
from flywheel.store.migrating import missing_parts
from flywheel.store.opening import RESTORE, read_every_block, sql_files
from flywheel.store.rows import ROUND_TABLES

DATABASE, SCHEMA, REFERENCES = "database", "schema", "references"
HINT = f"{RESTORE} Without a backup, do not rely on this round."


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of a check: what was found and, if it is a problem, what to do about it."""

    check: str
    message: str
    ok: bool = False
    hint: str = ""


_CANDIDATE = "round, task_id, candidate"
_HELD_OUT = """(SELECT round, task_id FROM rounds JOIN heldout_tasks ON heldout = identity->>'$."digest.heldout"')"""
_REFERENCES = (
    ("candidates", "(SELECT * FROM tasks WHERE kept)", "round, task_id", "candidates of tasks that were not kept"),
    ("scores", "candidates", _CANDIDATE, "scores of missing candidates"),
    ("selections", "candidates", _CANDIDATE, "selections of missing candidates"),
    ("evaluation_scores", "evaluations", _CANDIDATE, "scores of missing held-out outputs"),
    ("evaluations", _HELD_OUT, "round, task_id", "outputs of tasks that are not held out"),
    ("scores", "models", "model_id", "scores of unrecorded models"),
    ("evaluation_scores", "models", "model_id", "scores of unrecorded models"),
    (
        "(SELECT round, unnest([generator_in, generator_out, reward_model, judge]) AS model_id FROM rounds)",
        *("models", "model_id", "unrecorded models"),
    ),
    (
        "(SELECT model_id AS round, unnest((facts->'$.members')::VARCHAR[]) AS model_id FROM models WHERE kind = 'reward')",
        *("models", "model_id", "unrecorded members"),
    ),
    ("rounds", "(SELECT round AS parent FROM rounds)", "parent", "missing parents"),
    ("verdicts", "(SELECT round AS base FROM rounds)", "base", "verdicts against missing rounds"),
    ("""(SELECT round, identity->>'$."digest.seeds"' AS seeds FROM rounds)""", "seed_tasks", "seeds", "missing seed files"),
    *((table, "rounds", "round", f"rows of {table} without a round") for table in ROUND_TABLES[1:]),
)
"""Source, target, the columns by which rows of the source refer to those of the target, and what a dangling row is."""


def _dangling(references: Iterable[tuple[str, str, str, str]]) -> str:
    """A query for rows of a source that refer to no row of its target, with an example if one column refers."""
    return " UNION ALL ".join(
        f"SELECT round || ': ' || count(*) || ' {rows}'"
        + ("" if columns.startswith("round") else f" || ' (' || min({columns}) || ')'")
        + f" FROM {source} ANTI JOIN {target} USING ({columns}) WHERE {columns.split(', ')[-1]} IS NOT NULL GROUP BY round"
        for source, target, columns, rows in references
    )


CHECKS = sql_files("row_checks") | {REFERENCES: _dangling(_REFERENCES)}
"""The query of each check on rows."""


def problems(path: Path) -> list[Finding]:
    """All problems of a database; if it cannot be read or its schema is incomplete, only that."""
    try:
        with all_errors(path), connection(path) as db:
            read_every_block(db)
            if missing := missing_parts(db):
                return [Finding(check=SCHEMA, message=line, hint=RESTORE) for line in missing]
            return [
                Finding(check=check, message=line, hint=HINT)
                for check, sql in CHECKS.items()
                for (line,) in db.execute(f"SELECT DISTINCT * FROM ({sql}) ORDER BY ALL").fetchall()
            ]
    except StoreError as error:
        return [Finding(check=DATABASE, message=error.message, hint=error.hint)]


@contextmanager
def all_errors(path: Path) -> Iterator[None]:
    """Raise StoreError for all errors of DuckDB within the block, because the database may be in any state."""
    try:
        yield
    except duckdb.Error as error:
        raise StoreError(f"cannot read {path}: {first_line(error)}", RESTORE) from None
