"""The forms of a file and the shapes of a row, as pure functions from what the store has."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from flywheel.records import Task

if TYPE_CHECKING:
    import pyarrow as pa

    from flywheel.instructions.prompts import Prompts
    from flywheel.store.exporting import Pair, Pick

Columns = Mapping[str, str]
"""Names of columns with what is in them: string, int32, float64, or messages."""


class Format(StrEnum):
    """What the folder holds."""

    HF = "hf"
    """``data/train-00000-of-00001.parquet`` and on, as the hub has them."""
    PARQUET = "parquet"
    """One file, ``train.parquet``."""
    PARTITIONED = "partitioned"
    """``data/round=r1/train-00000-of-00001.parquet`` and on: a folder for each round, as query engines partition."""
    JSONL = "jsonl"
    """One file, ``train.jsonl``. The reader of `datasets` takes a column of nothing but dates for dates; parquet has types."""


class Shape(StrEnum):
    """What a row is."""

    COLUMNS = "columns"
    """The task's fields and the output, each in its column."""
    MESSAGES = "messages"
    """A conversation: the task as a user says it, the output as the assistant's."""
    PROMPT_COMPLETION = "prompt-completion"
    """The two texts that flywheel's training joins."""


ORIGIN = {"task_id": "string", "round": "string"}
PICKED = ORIGIN | {"candidate": "int32", "reward": "float64", "margin": "float64"}
PAIRED = ORIGIN | {"chosen_reward": "float64", "rejected_reward": "float64", "margin": "float64"}
TASK = {"task_id": "string", "instruction": "string", "input": "string", "constraints": "string", "output": "string"}


def columns(shape: Shape, *, pairs: bool) -> Columns:
    """The columns of a shape, in order."""
    if pairs:
        text = "messages" if shape == Shape.MESSAGES else "string"
        return {"prompt": text, "chosen": text, "rejected": text} | PAIRED
    if shape == Shape.MESSAGES:
        return {"messages": "messages"} | PICKED
    if shape == Shape.PROMPT_COMPLETION:
        return {"prompt": "string", "completion": "string"} | PICKED
    numbers = {"reward": "float64", "margin": "float64", "round": "string", "candidate": "int32", "tokens": "int32"}
    return TASK | numbers


def pick_row(pick: Pick, shape: Shape, prompts: Prompts | None) -> dict[str, Any]:
    """A pick in a shape; ``prompts`` are what it is asked with, and needed for all shapes but columns."""
    if prompts is None:
        return {name: getattr(pick, name) for name in columns(Shape.COLUMNS, pairs=False)}
    asked, written = prompts.answer(_task(pick)), prompts.output(pick.output)
    about = {name: getattr(pick, name) for name in PICKED}
    if shape == Shape.MESSAGES:
        return {"messages": [_said("user", asked), _said("assistant", written)]} | about
    return {"prompt": asked, "completion": written} | about


def pair_row(pair: Pair, shape: Shape, prompts: Prompts) -> dict[str, Any]:
    """A pair as trl's DPOTrainer takes it, of texts or of messages."""
    asked, chosen, rejected = prompts.answer(_task(pair)), prompts.output(pair.chosen), prompts.output(pair.rejected)
    about = {name: getattr(pair, name) for name in PAIRED}
    if shape == Shape.MESSAGES:
        return {
            "prompt": [_said("user", asked)],
            "chosen": [_said("assistant", chosen)],
            "rejected": [_said("assistant", rejected)],
        } | about
    return {"prompt": asked, "chosen": chosen, "rejected": rejected} | about


def arrow_schema(found: Columns) -> pa.Schema:
    """The columns as Arrow types."""
    import pyarrow as pa

    messages = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    types = {"string": pa.string(), "int32": pa.int32(), "float64": pa.float64(), "messages": messages}
    return pa.schema([(name, types[kind]) for name, kind in found.items()])


def card_features(found: Columns) -> list[dict[str, Any]]:
    """The columns as a data set card says them, so that a loader need not guess."""
    return [
        {"name": name, "list": [{"name": part, "dtype": "string"} for part in ("role", "content")]}
        if kind == "messages"
        else {"name": name, "dtype": kind}
        for name, kind in found.items()
    ]


def _task(row: Pick | Pair) -> Task:
    return Task(instruction=row.instruction, input=row.input, constraints=row.constraints)


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
