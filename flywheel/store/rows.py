"""Records as rows: inserted as one Arrow table a chunk, because DuckDB inserts single rows a hundred times slower."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter

from flywheel.records import (
    Candidate,
    Facts,
    FailedChunk,
    FinishReason,
    HeldOutTask,
    Metric,
    Model,
    ModelKind,
    Policy,
    Proposal,
    Round,
    Score,
    SeedTask,
    Selection,
    Stage,
)

if TYPE_CHECKING:
    import duckdb

Record = TypeVar("Record", Candidate, Model, Round)
FACTS = TypeAdapter(Facts)
"""Facts of a model, to and from the JSON of ``models.facts``."""
TABLES: Mapping[type, str] = {
    **{Candidate: "candidates", Score: "scores", Selection: "selections"},
    **{Proposal: "tasks", Metric: "metrics", FailedChunk: "failed_chunks"},
}
"""The table of the records of each type, which has a column for each of their fields."""
HELD_OUT_TABLES: Mapping[type, str] = {**TABLES, Candidate: "evaluations", Score: "evaluation_scores"}
"""The same for the stage that evaluates."""
ROUND_TABLES = (
    *("rounds", "stages", "failed_chunks", "tasks", "candidates", "scores", "selections"),
    *("evaluations", "evaluation_scores", "metrics", "verdicts"),
)
"""Tables whose rows belong to a round."""
JSON_COLUMNS = ("recipe", "identity", "config", "versions", "engine", "weights", "accuracies")
PARSERS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(JSON_COLUMNS, json.loads),
    "facts": FACTS.validate_json,
    "kind": ModelKind,
    "policy": Policy,
    "finish_reason": FinishReason,
}
"""By column: what makes the value of a field from that of a row."""


def insert(db: duckdb.DuckDBPyConnection, table: str, records: Sequence[Any], *, conflict: str = "", **constants: Any) -> None:
    """Insert records into a table with a column for each of their fields; ``constants`` fill further columns."""
    _insert_rows(db, table, [_row(record) | constants for record in records], conflict)


def _insert_rows(db: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, Any]], conflict: str = "") -> None:
    import pyarrow as pa

    if rows:
        db.register("chunk", pa.Table.from_pylist(rows))
        db.execute(f"INSERT INTO {table} ({', '.join(rows[0])}) SELECT * FROM chunk {conflict}")
        db.unregister("chunk")


def insert_chunk(db: duckdb.DuckDBPyConnection, name: str, stage: Stage, records: Sequence[Any]) -> None:
    """Insert the records of a chunk, each type into its table of the round."""
    tables = HELD_OUT_TABLES if stage == Stage.EVALUATE else TABLES
    for kind in dict.fromkeys(map(type, records)):
        of_kind: list[Any] = [record for record in records if type(record) is kind]
        if kind is Model:
            (generator,) = of_kind
            insert_model(db, generator)
            db.execute("UPDATE rounds SET generator_out = ? WHERE round = ?", [generator.model_id, name])
        else:
            insert(db, tables[kind], of_kind, round=name)


def insert_task_file(
    db: duckdb.DuckDBPyConnection, table: str, records: Sequence[SeedTask] | Sequence[HeldOutTask], **digest: str
) -> None:
    """Insert the tasks of a seed or held-out file, unless the file with this digest is already recorded."""
    ((column, value),) = digest.items()
    if not db.execute(f"SELECT 1 FROM {table} WHERE {column} = ? LIMIT 1", [value]).fetchall():
        rows = [_row(record) | {"position": position} | digest for position, record in enumerate(records)]
        _insert_rows(db, table, rows)


def insert_model(db: duckdb.DuckDBPyConnection, model: Model) -> None:
    """Record a model; one that is already recorded gets the new path and is no longer pruned."""
    conflict = "ON CONFLICT (model_id) DO UPDATE SET path = excluded.path, pruned_at = NULL"
    insert(db, "models", [model], conflict=conflict)


def _row(record: Any) -> dict[str, Any]:
    """The values of a record, by column."""
    row = {field.name: _value(getattr(record, field.name), field.name) for field in fields(record)}
    if isinstance(record, Proposal | SeedTask | HeldOutTask):
        task = row.pop("task")
        row |= {name: getattr(task, name, None) for name in ("task_id", "instruction", "input", "constraints")}
    if isinstance(record, Proposal):
        row |= {"kept": record.reason is None, "nearest_task": row.pop("nearest"), "parent_task": row.pop("parent")}
    return row | {"model_id": record.model_id} if isinstance(record, Model) else row


def _value(value: Any, name: str) -> Any:
    if isinstance(value, Facts):
        return FACTS.dump_json(value, exclude_defaults=True).decode()
    return json.dumps(value) if name in JSON_COLUMNS else value


def columns_of(kind: type[Any]) -> str:
    """The columns of a record type, as SQL."""
    return ", ".join(field.name for field in fields(kind))


def record_of(kind: type[Record], row: Sequence[Any]) -> Record:
    """The record of a row with the columns of its type."""
    names = [field.name for field in fields(kind)]
    values = zip(names, row, strict=True)
    return kind(**{name: PARSERS[name](value) if name in PARSERS else value for name, value in values})
