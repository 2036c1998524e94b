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
    Task,
)

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Record = TypeVar("Record", Candidate, Model, Round)
FACTS = TypeAdapter(Facts)
"""Facts of a model, to and from the JSON of ``models.facts``."""
TABLES: Mapping[type, str] = {
    **{Candidate: "candidates", Score: "scores", Selection: "selections"},
    **{Metric: "metrics", FailedChunk: "failed_chunks"},
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
    if records:
        names = [field.name for field in fields(records[0])]
        append(db, table, _columns(records, *names), conflict=conflict, **constants)


def append(
    db: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, Sequence[Any]], *, conflict: str = "", **constants: Any
) -> None:
    """Insert rows that are given as columns."""
    import pyarrow as pa

    rows: pa.Table = pa.table({name: pa.array(values) for name, values in columns.items()})
    if rows.num_rows == 0:
        return
    names, values = ", ".join([*columns, *constants]), ", ".join([*columns, *("?" for _ in constants)])
    db.register("chunk", rows)
    db.execute(f"INSERT INTO {table} ({names}) SELECT {values} FROM chunk {conflict}", list(constants.values()))
    db.unregister("chunk")


def insert_chunk(db: duckdb.DuckDBPyConnection, name: str, stage: Stage, records: Sequence[Any]) -> None:
    """Insert the records of a chunk, each type into its table of the round."""
    tables = HELD_OUT_TABLES if stage == Stage.EVALUATE else TABLES
    for kind in dict.fromkeys(map(type, records)):
        of_kind: list[Any] = [record for record in records if type(record) is kind]
        if kind is Proposal:
            append(db, "tasks", _proposal_columns(of_kind), round=name)
        elif kind is Model:
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
    if records and not db.execute(f"SELECT 1 FROM {table} WHERE {column} = ? LIMIT 1", [value]).fetchall():
        others = [field.name for field in fields(records[0]) if field.name != "task"]
        columns = _columns(records, *others) | _task_columns([record.task for record in records])
        append(db, table, columns | {"position": list(range(len(records)))}, **digest)


def _columns(records: Sequence[Any], *names: str) -> dict[str, list[Any]]:
    return {name: [_value(record, name) for record in records] for name in names}


def _task_columns(tasks: Sequence[Task | None]) -> dict[str, list[Any]]:
    names = ("task_id", "instruction", "input", "constraints")
    return {name: [getattr(task, name, None) for task in tasks] for name in names}


def _proposal_columns(proposals: Sequence[Proposal]) -> dict[str, list[Any]]:
    return {
        **_columns(proposals, "attempt", "raw", "tokens", "reason", "kind", "similarity", "origin"),
        **_task_columns([proposal.task for proposal in proposals]),
        "kept": [proposal.reason is None for proposal in proposals],
        "demos": [list(proposal.demos) for proposal in proposals],
        "nearest_task": [proposal.nearest for proposal in proposals],
        "parent_task": [proposal.parent for proposal in proposals],
    }


def insert_model(db: duckdb.DuckDBPyConnection, model: Model) -> None:
    """Record a model; one that is already recorded gets the new path and is no longer pruned."""
    conflict = "ON CONFLICT (model_id) DO UPDATE SET path = excluded.path, pruned_at = NULL"
    insert(db, "models", [model], conflict=conflict, model_id=model.model_id)


def _value(record: Any, name: str) -> Any:
    value = getattr(record, name)
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
