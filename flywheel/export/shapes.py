"""What an export may look like: the formats of its files, and the shapes of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.records import Task

if TYPE_CHECKING:
    import datasets

    from flywheel.instructions.prompts import Prompts
    from flywheel.store.exporting import Pair, Pick

Columns = Mapping[str, str]
"""Names of columns with their types: string, int32, float64, or messages."""


class Format(StrEnum):
    """The files of an export."""

    HF = "hf"
    """``data/train-00000-of-00001.parquet`` and so on, as on the hub."""
    PARQUET = "parquet"
    """One file, ``train.parquet``."""
    PARTITIONED = "partitioned"
    """``data/round=r1/train-00000-of-00001.parquet`` and so on: a folder per round, as query engines partition."""
    JSONL = "jsonl"
    """One file, ``train.jsonl``. `datasets` reads a column that holds only dates as dates; parquet has types."""


class Shape(StrEnum):
    """The columns of a row."""

    COLUMNS = "columns"
    """The task's fields and the output, each in its column."""
    MESSAGES = "messages"
    """A conversation: the task as the user's message, the output as the assistant's."""
    PROMPT_COMPLETION = "prompt-completion"
    """The two texts that flywheel's training joins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What to export, and how."""

    name: str
    """A round or a control."""
    to: Path
    form: Format = Format.HF
    shape: Shape | None = None
    """None is columns, and prompt-completion for pairs."""
    pairs: bool = False
    everything: bool = False
    """With the rounds before it."""
    overwrite: bool = False
    push_to: str | None = None
    public: bool = False

    @property
    def row_shape(self) -> Shape:
        return self.shape or (Shape.PROMPT_COMPLETION if self.pairs else Shape.COLUMNS)

    @property
    def columns(self) -> Columns:
        return columns(self.row_shape, pairs=self.pairs)


PICKED = {"task_id": "string", "round": "string", "candidate": "int32", "reward": "float64", "margin": "float64"}
PAIRED = {
    "task_id": "string", "round": "string", "chosen_reward": "float64", "rejected_reward": "float64", "margin": "float64",
}  # fmt: skip
PLAIN = {
    "task_id": "string", "instruction": "string", "input": "string", "constraints": "string", "output": "string",
    "reward": "float64", "margin": "float64", "round": "string", "candidate": "int32", "tokens": "int32",
}  # fmt: skip


def columns(shape: Shape, *, pairs: bool) -> Columns:
    """The columns of a shape, in order."""
    text = "messages" if shape == Shape.MESSAGES else "string"
    if pairs:
        return {"prompt": text, "chosen": text, "rejected": text} | PAIRED
    if shape == Shape.COLUMNS:
        return PLAIN
    return ({"messages": text} if shape == Shape.MESSAGES else {"prompt": text, "completion": text}) | PICKED


def pick_row(pick: Pick, shape: Shape, prompts: Prompts | None) -> dict[str, Any]:
    """A selected candidate in a shape; all shapes but columns need ``prompts``."""
    if prompts is None:
        return {name: getattr(pick, name) for name in PLAIN}
    prompt, output = _prompt(pick, prompts), prompts.output(pick.output)
    texts: dict[str, Any] = {"prompt": prompt, "completion": output}
    if shape == Shape.MESSAGES:
        texts = {"messages": _message("user", prompt) + _message("assistant", output)}
    return texts | {name: getattr(pick, name) for name in PICKED}


def pair_row(pair: Pair, shape: Shape, prompts: Prompts) -> dict[str, Any]:
    """A pair as trl's DPOTrainer takes it, of texts or of messages."""
    texts = {"chosen": prompts.output(pair.chosen), "rejected": prompts.output(pair.rejected)}
    row: dict[str, Any] = {"prompt": _prompt(pair, prompts)} | texts
    if shape == Shape.MESSAGES:
        row = {name: _message("user" if name == "prompt" else "assistant", text) for name, text in row.items()}
    return row | {name: getattr(pair, name) for name in PAIRED}


def features(columns: Columns) -> datasets.Features:
    """The columns as `datasets` has them."""
    from datasets import Features, Value

    messages = [{"role": Value("string"), "content": Value("string")}]
    return Features({name: messages if kind == "messages" else Value(kind) for name, kind in columns.items()})


def _prompt(row: Pick | Pair, prompts: Prompts) -> str:
    return prompts.answer(Task(instruction=row.instruction, input=row.input, constraints=row.constraints))


def _message(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]
