"""Pairs from thumbs: outputs that share a value of some column, a liked one against a disliked one."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flywheel.config import DataConfig
from flywheel.core.files import write_whole
from flywheel.core.seeds import generator
from flywheel.errors import DataError
from flywheel.reward.data import PreferenceSet, Row, Thumb, meet
from flywheel.reward.reading import read_set
from flywheel.reward.sources import find_source, read_source
from flywheel.reward.text import Answer


def write_pairs(config: DataConfig, column: str, to: Path, *, seed: int) -> dict[str, Any]:
    """Write the pairs of each group of thumbs as jsonl; returns counts. Raises DataError where no group has a pair."""
    config = config.model_copy(update={"columns": {**config.columns, "group": column}})
    thumbs = read_set(read_source(find_source(config.data, Path(config.data))), config)
    pairs = list(group_into_pairs(thumbs, seed=seed))
    if not pairs:
        likes = sum(row.liked for row in thumbs.rows if isinstance(row, Thumb))
        raise DataError(
            f"no group of {column!r} has both likes and dislikes ({likes} likes, {len(thumbs.rows) - likes} dislikes in all)",
            "Group by another column, or change --threshold or --liked.",
        )
    try:
        write_whole(to, "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs))
    except OSError as error:
        raise DataError(f"cannot write {to}: {error.strerror}", "Choose another `--to`.") from None
    return {
        "pairs": len(pairs), "thumbs": len(thumbs.rows), "groups": len({row.prompt for row in thumbs.rows}),
        "paired": len({pair["group"] for pair in pairs}), "dropped": dict(thumbs.dropped),
    }  # fmt: skip


def group_into_pairs(thumbs: PreferenceSet, *, seed: int = 0) -> Iterator[dict[str, Any]]:
    """A row of chosen and rejected for each liked output that has a disliked one of the same group, each used once.

    Groups that have only likes or only dislikes give nothing. The order within a group is drawn by ``seed``. Each row
    has its group, by which splits are then drawn.
    """

    def cell(answer: Answer) -> Any:  # an output with its own task: the two of a pair need not answer the same one
        return answer.output if answer.task is None else asdict(answer.task) | {"output": answer.output}

    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in thumbs.rows:
        groups[row.prompt.removeprefix("group\x1f")].append(row)
    for name, rows in groups.items():
        for liked, disliked in meet(rows, generator(seed, "pairs", name)):
            yield {"group": name, "chosen": cell(liked.answer), "rejected": cell(disliked.answer)}
