"""Records as columns: one Arrow table a chunk, because DuckDB takes rows one by one a hundred times slower."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from flywheel.records import Candidate, FailedChunk, Metric, Model, Proposal, Sample, SampleScore, Score, Selection, Task
from flywheel.store.facts import facts_to_json

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


def by_type(rows: Sequence[Any]) -> dict[type, list[Any]]:
    """Records by their class, in order."""
    kinds = list(dict.fromkeys(map(type, rows)))
    return {kind: [row for row in rows if type(row) is kind] for kind in kinds}


def insert(db: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Any], **constants: Any) -> None:
    """Add records to the table that has a column for each of their fields; ``constants`` fill further columns."""
    if rows:
        names = [field.name for field in fields(rows[0])]
        append(db, table, {name: list(map(attrgetter(name), rows)) for name in names}, **constants)


def append(db: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, Iterable[Any]], **constants: Any) -> None:
    """Add rows to a table, given as columns."""
    import pyarrow as pa

    # A word of an enum is a string to Arrow, too.
    arrow: pa.Table = pa.table({name: pa.array(values) for name, values in columns.items()})
    if arrow.num_rows == 0:
        return
    names = [*columns, *constants]
    selected = [*columns, *("?" for _ in constants)]
    db.register("chunk", arrow)
    db.execute(f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(selected)} FROM chunk", list(constants.values()))
    db.unregister("chunk")


def task_columns(tasks: Sequence[Task]) -> dict[str, list[Any]]:
    """Tasks with their places."""
    return {
        "task_id": [task.task_id for task in tasks],
        "position": list(range(len(tasks))),
        "instruction": [task.instruction for task in tasks],
        "input": [task.input for task in tasks],
        "constraints": [task.constraints for task in tasks],
    }


def _insert_proposals(db: duckdb.DuckDBPyConnection, name: str, rows: Sequence[Proposal]) -> None:
    columns: dict[str, list[Any]] = {
        "task_id": [row.task.task_id if row.task else None for row in rows],
        "attempt": [row.attempt for row in rows],
        "instruction": [row.task.instruction if row.task else None for row in rows],
        "input": [row.task.input if row.task else None for row in rows],
        "constraints": [row.task.constraints if row.task else None for row in rows],
        "demos": [list(row.demos) for row in rows],
        "kept": [row.reason is None for row in rows],
        "reason": [row.reason for row in rows],
        "raw": [row.raw for row in rows],
        "tokens": [row.tokens for row in rows],
        "kind": [row.kind for row in rows],
        "nearest_task": [row.nearest for row in rows],
        "similarity": [row.similarity for row in rows],
        "origin": [row.origin for row in rows],
        "parent_task": [row.parent for row in rows],
    }
    append(db, "tasks", columns, round=name)


def insert_model(db: duckdb.DuckDBPyConnection, model: Model) -> None:
    """Add a model; one that is there already is where this one is, and no longer pruned."""
    db.execute(
        "INSERT INTO models (model_id, kind, name, path, digest, parent, recipe, facts) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (model_id) DO UPDATE SET path = excluded.path, pruned_at = NULL",
        [
            model.model_id, str(model.kind), model.name, model.path, model.digest, model.parent,
            json.dumps(model.recipe), facts_to_json(model.facts),
        ],
    )  # fmt: skip


def _insert_generator(db: duckdb.DuckDBPyConnection, name: str, rows: Sequence[Model]) -> None:
    for model in rows:
        insert_model(db, model)
        db.execute("UPDATE rounds SET generator_out = ? WHERE round = ?", [model.model_id, name])


def _writer(table: str) -> Callable[[duckdb.DuckDBPyConnection, str, Sequence[Any]], None]:
    return lambda db, name, rows: insert(db, table, rows, round=name)


WRITERS: dict[type, Callable[[duckdb.DuckDBPyConnection, str, Sequence[Any]], None]] = {
    Proposal: _insert_proposals,
    Candidate: _writer("candidates"),
    Score: _writer("scores"),
    Selection: _writer("selections"),
    Model: _insert_generator,
    Sample: _writer("evaluations"),
    SampleScore: _writer("evaluation_scores"),
    Metric: _writer("metrics"),
    FailedChunk: _writer("failed_chunks"),
}
"""What writes the records of a class into the tables of a round."""
