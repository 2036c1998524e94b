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
        """The columns of a row, in order."""
        text = "messages" if self.row_shape == Shape.MESSAGES else "string"
        if self.pairs:
            return {"prompt": text, "chosen": text, "rejected": text} | PAIRED
        if self.row_shape == Shape.COLUMNS:
            return PLAIN
        return ({"messages": text} if text == "messages" else {"prompt": text, "completion": text}) | PICKED


PICKED = {"task_id": "string", "round": "string", "candidate": "int32", "reward": "float64", "margin": "float64"}
PAIRED = {
    "task_id": "string", "round": "string", "chosen_reward": "float64", "rejected_reward": "float64", "margin": "float64",
}  # fmt: skip
PLAIN = {
    "task_id": "string", "instruction": "string", "input": "string", "constraints": "string", "output": "string",
    "reward": "float64", "margin": "float64", "round": "string", "candidate": "int32", "tokens": "int32",
}  # fmt: skip


def as_row(record: Pick | Pair, options: ExportOptions, prompts: Prompts | None) -> dict[str, Any]:
    """A selected candidate or a pair as a row, as trl's SFTTrainer and DPOTrainer take it; plain columns need no prompts."""
    texts: dict[str, Any] = {}
    if prompts is not None:
        task = Task(instruction=record.instruction, input=record.input, constraints=record.constraints)
        outputs = {"chosen": "chosen", "rejected": "rejected"} if options.pairs else {"completion": "output"}
        texts = {column: prompts.output(getattr(record, field)) for column, field in outputs.items()}
        texts["prompt"] = prompts.answer(task)
        if options.row_shape == Shape.MESSAGES:
            roles = {"prompt": "user"}
            texts = {name: [{"role": roles.get(name, "assistant"), "content": text}] for name, text in texts.items()}
        if "messages" in options.columns:
            texts["messages"] = texts["prompt"] + texts["completion"]
    return {name: texts[name] if name in texts else getattr(record, name) for name in options.columns}


def features(columns: Columns) -> datasets.Features:
    """The columns as `datasets` has them."""
    from datasets import Features, Value

    messages = [{"role": Value("string"), "content": Value("string")}]
    return Features({name: messages if kind == "messages" else Value(kind) for name, kind in columns.items()})
