"""Preference data: thumbs (one output, a label) and pairs (a chosen and a rejected output).

Rows of one task share a split, so that a held-out accuracy is an accuracy on unseen tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from flywheel.errors import DataError
from flywheel.instructions.tasks import read_lines, read_task, text_field
from flywheel.reward.text import Answer
from flywheel.seeds import generator


class Split(StrEnum):
    """What a row is for."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumb:
    """One output and whether it was liked."""

    answer: Answer
    liked: bool
    split: Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two outputs for one task, and which was preferred."""

    chosen: Answer
    rejected: Answer
    split: Split


def split_of(row: dict[str, Any], task_id: str, path: Path) -> Split:
    """The split a row names, or else one drawn by its task: 80 % train, 10 % validation, 10 % test."""
    name = row.get("split")
    if name is None:
        share = generator("split", task_id).random()
        return Split.TRAIN if share < 0.8 else Split.VALIDATION if share < 0.9 else Split.TEST
    try:
        return Split(name)
    except ValueError:
        known = ", ".join(Split)
        raise DataError(f"{path} line {row['line']}: split must be one of {known}, got {name!r}; mend the line") from None


def read_preferences(path: Path, kind: Literal["thumbs", "pairs"]) -> Sequence[Thumb | Pair]:
    """The rows of a file of thumbs or pairs; raises DataError that names the line."""
    return read_thumbs(path) if kind == "thumbs" else read_pairs(path)


def read_thumbs(path: Path) -> list[Thumb]:
    """Rows of instruction, input, constraints, output and label (0 or 1)."""
    rows = []
    for row in read_lines(path):
        task = read_task(row, path)
        if row.get("label") not in (0, 1):
            raise DataError(f"{path} line {row['line']}: label must be 0 or 1, got {row.get('label')!r}; mend the line")
        rows.append(
            Thumb(
                answer=Answer(task=task, output=text_field(row, "output", path)),
                liked=bool(row["label"]),
                split=split_of(row, task.task_id, path),
            )
        )
    _require_splits(path, [row.split for row in rows])
    if len({row.liked for row in rows if row.split == Split.TRAIN}) < 2:
        raise DataError(f"{path}: all labels of the train split are the same; a reward model needs both kinds")
    return rows


def read_pairs(path: Path) -> list[Pair]:
    """Rows of instruction, input, constraints, chosen and rejected."""
    rows = []
    for row in read_lines(path):
        task = read_task(row, path)
        chosen, rejected = text_field(row, "chosen", path), text_field(row, "rejected", path)
        if chosen == rejected:
            raise DataError(f"{path} line {row['line']}: chosen and rejected are the same; remove the line")
        rows.append(
            Pair(
                chosen=Answer(task=task, output=chosen),
                rejected=Answer(task=task, output=rejected),
                split=split_of(row, task.task_id, path),
            )
        )
    _require_splits(path, [row.split for row in rows])
    return rows


def _require_splits(path: Path, splits: Sequence[Split]) -> None:
    for split in Split:
        if split not in splits:
            raise DataError(f"{path} has no rows in its {split} split; add some")
