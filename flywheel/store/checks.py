"""Checks that the rows of a database fit together. Each check is a query that returns one line per problem.

All checks run in one connection, so they see the rows of one instant; a running round waits in the meantime.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from flywheel.errors import StoreError, first_line
from flywheel.store.database import connection
from flywheel.store.migrating import missing_parts
from flywheel.store.opening import RESTORE, read_every_block
from flywheel.store.rows import ROUND_TABLES

DATABASE, SCHEMA, REFERENCES = "database", "schema", "references"
RESTORE_OR_EXCLUDE = f"{RESTORE} Otherwise, do not rely on this round."
RESTORE_OR_DELETE = f"{RESTORE} Otherwise, delete these rows with DuckDB after a `flywheel backup`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of a check: what was found and, if it is a problem, what to do about it."""

    check: str
    message: str
    ok: bool = False
    hint: str = ""


STAGES = """
WITH counted AS (
    SELECT round, stage, count(*) AS rows FROM (
        SELECT round, CASE origin WHEN 'proposed' THEN 'propose' ELSE 'paraphrase' END AS stage FROM tasks
        UNION ALL SELECT round, 'answer' FROM candidates
        UNION ALL SELECT round, CASE m.kind WHEN 'reward' THEN 'score' WHEN 'member' THEN 'select' ELSE 'judge' END
            FROM scores JOIN models AS m USING (model_id)
        UNION ALL SELECT round, 'select' FROM selections
        UNION ALL SELECT round, 'train' FROM rounds WHERE number > 0 AND generator_out IS NOT NULL
        UNION ALL SELECT round, 'evaluate' FROM evaluations
        UNION ALL SELECT round, 'evaluate' FROM evaluation_scores
        UNION ALL SELECT round, stage FROM failed_chunks
    ) GROUP BY ALL
), expected AS (
    SELECT round, unnest(CASE
        WHEN number = 0 THEN ['evaluate']
        WHEN policy <> 'best' THEN ['train', 'evaluate']
        ELSE ['propose', 'answer', 'score', 'select', 'train', 'evaluate'] END) AS stage
    FROM rounds WHERE status = 'done'
)
SELECT round || ' ' || stage || ': ' || coalesce(s.rows, 0) || ' rows committed, ' || coalesce(c.rows, 0) || ' found'
FROM stages AS s FULL JOIN counted AS c USING (round, stage) SEMI JOIN rounds USING (round)
WHERE coalesce(s.rows, 0) <> coalesce(c.rows, 0)
UNION ALL
SELECT round || ' ' || stage || ': not finished, although the round is done'
FROM expected LEFT JOIN stages AS s USING (round, stage) WHERE s.finished_at IS NULL
"""

WINNERS = """
SELECT round || ': ' || count(*) || ' selected candidates are not finished'
FROM selections JOIN candidates USING (round, task_id, candidate) WHERE finish_reason <> 'stop' GROUP BY round
UNION ALL
SELECT round || ': ' || count(*) || ' winners do not have the highest reward of their task'
FROM (
    SELECT w.round, w.task_id, max(s.score) AS highest, max(s.score) FILTER (s.candidate = w.candidate) AS reward
    FROM selections AS w JOIN rounds AS r USING (round)
    JOIN candidates AS c ON c.round = w.round AND c.task_id = w.task_id AND c.finish_reason = 'stop'
    JOIN scores AS s ON s.round = c.round AND s.task_id = c.task_id AND s.candidate = c.candidate
        AND s.model_id = r.reward_model
    WHERE w.policy = 'best' GROUP BY w.round, w.task_id)
WHERE reward < highest GROUP BY round
"""

VERDICTS = """
SELECT round || ': the verdict ' || verdict || ' against ' || base || ' does not match its evidence' FROM verdicts
WHERE (evidence->>'$.verdict', evidence->>'$.round', evidence->>'$.base') <> (verdict, round, base)
"""

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
    ("(SELECT model_id AS round, * FROM learning_curves)", "models", "model_id", "points of unrecorded models"),
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
)
"""Source, target, the columns by which rows of the source refer to those of the target, and what a dangling row is."""


def _dangling(source: str, target: str, columns: str, rows: str) -> str:
    """A query for rows of ``source`` that refer to no row of ``target``."""
    example = f" || ' (' || min({columns}) || ')'" if columns not in ("round", _CANDIDATE, "round, task_id") else ""
    return (
        f"SELECT round || ': ' || count(*) || ' {rows}'{example} FROM {source} ANTI JOIN {target} USING ({columns}) "
        f"WHERE {columns.split(', ')[-1]} IS NOT NULL GROUP BY round"
    )


ORPHANS = " UNION ALL ".join(
    _dangling(table, "rounds", "round", f"rows of {table} without a round") for table in ROUND_TABLES[1:]
)
CHECKS = {
    "stages": (STAGES, RESTORE_OR_EXCLUDE),
    REFERENCES: (" UNION ALL ".join(_dangling(*reference) for reference in _REFERENCES), RESTORE_OR_EXCLUDE),
    "orphans": (ORPHANS, RESTORE_OR_DELETE),
    "winners": (WINNERS, RESTORE_OR_EXCLUDE),
    "verdicts": (VERDICTS, f"{RESTORE} `flywheel compare` repeats a comparison without recording it."),
}
"""The query of each check on rows, and the hint for its problems."""


def problems(path: Path) -> list[Finding]:
    """All problems of a database; if a block cannot be read, only that. Raises StoreError if it cannot be opened."""
    with all_errors(path), connection(path) as db:
        try:
            read_every_block(db)
            missing = [Finding(check=SCHEMA, message=line, hint=RESTORE) for line in missing_parts(db)]
            return [*missing, *_row_problems(db, complete=not missing)]
        except (duckdb.ProgrammingError, duckdb.OutOfMemoryException):
            raise  # a mistake in a check, or too little memory
        except duckdb.Error as error:
            return [Finding(check=DATABASE, message=f"cannot be read: {first_line(error)}", hint=RESTORE)]


@contextmanager
def all_errors(path: Path) -> Iterator[None]:
    """Raise StoreError for all errors of DuckDB within the block, because the database may be in any state."""
    try:
        yield
    except duckdb.Error as error:
        raise StoreError(f"cannot read {path}: {first_line(error)}", RESTORE) from None


def _row_problems(db: duckdb.DuckDBPyConnection, *, complete: bool) -> Iterator[Finding]:
    for check, (sql, hint) in CHECKS.items():
        try:
            lines = db.execute(f"SELECT DISTINCT * FROM ({sql}) ORDER BY ALL").fetchall()
        except duckdb.ProgrammingError:
            if complete:
                raise
            lines, hint = [("skipped, because the schema is incomplete",)], RESTORE
        yield from (Finding(check=check, message=line, hint=hint) for (line,) in lines)
