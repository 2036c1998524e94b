"""Pairs out of thumbs: outputs that share a value of some column, a liked one against a disliked one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flywheel.config import DataConfig
from flywheel.core.files import write_whole
from flywheel.core.seeds import generator
from flywheel.errors import DataError
from flywheel.reward.data import PreferenceSet, Thumb, read_set
from flywheel.reward.sources import find_source, read_source
from flywheel.reward.text import Answer


def write_pairs(config: DataConfig, column: str, to: Path, *, seed: int) -> dict[str, Any]:
    """Read thumbs, write the pairs of their groups as jsonl; returns counts.

    Raises DataError where no group has both likes and dislikes.
    """
    config = config.model_copy(update={"columns": {**config.columns, "group": column}})
    thumbs = read_set(read_source(find_source(config.data, Path(config.data))), config)
    rows = list(group_into_pairs(thumbs, seed=seed))
    groups = len({row.prompt for row in thumbs.rows})
    if not rows:
        likes = sum(row.liked for row in thumbs.rows if isinstance(row, Thumb))
        raise DataError(
            f"no value of {column!r} has both likes and dislikes: there are {likes} likes and {len(thumbs.rows) - likes} "
            "dislikes in all; group by another column, or mend which labels are likes"
        )
    try:
        write_whole(to, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    except OSError as error:
        raise DataError(f"cannot write {to}: {error.strerror}; choose another --to") from None
    paired = len({row["group"] for row in rows})
    return {"pairs": len(rows), "thumbs": len(thumbs.rows), "groups": groups, "paired": paired, "dropped": dict(thumbs.dropped)}


def group_into_pairs(thumbs: PreferenceSet, *, seed: int = 0) -> Iterator[dict[str, Any]]:
    """A row of chosen and rejected for each liked output that has a disliked one of the same group, each used once.

    Groups that hold likes only or dislikes only give nothing. The order within a group is drawn by ``seed``. Each row
    carries its group, by which splits are then drawn.
    """
    groups: dict[str, tuple[list[Answer], list[Answer]]] = {}
    for row in thumbs.rows:
        if isinstance(row, Thumb):
            groups.setdefault(row.prompt.removeprefix("group\x1f"), ([], []))[0 if row.liked else 1].append(row.answer)
    for name, (liked, disliked) in groups.items():
        order = generator(seed, "pairs", name)
        order.shuffle(liked)
        order.shuffle(disliked)
        # To the shorter of both: an output in many pairs would be learnt by heart.
        for chosen, rejected in zip(liked, disliked, strict=False):
            yield {"group": name, "chosen": _cell(chosen), "rejected": _cell(rejected)}


def _cell(answer: Answer) -> Any:
    """An output with its own task: the two of a pair need not answer the same one."""
    if answer.task is None:
        return answer.output
    task = answer.task
    return {"instruction": task.instruction, "input": task.input, "constraints": task.constraints, "output": answer.output}
