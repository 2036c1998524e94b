"""Rows to files, a block at a time: a round of any size takes the memory of one block."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flywheel.export.shapes import Columns, Format, features

Blocks = Iterable[Sequence[dict[str, Any]]]
SHARD_BYTES = 256 * 2**20
LINE_ENDS = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})
"""Characters that some readers take for the end of a line, and JSON leaves unescaped."""
PATTERNS = {
    Format.JSONL: "train.jsonl",
    Format.PARQUET: "train.parquet",
    Format.PARTITIONED: "data/*/train-*.parquet",
    Format.HF: "data/train-*.parquet",
}
"""The files of each format, for the card."""


def write_rows(folder: Path, form: Format, columns: Columns, blocks: Blocks, *, shard_bytes: int = SHARD_BYTES) -> None:
    """Write the rows into a folder in a format; the blocks come round by round."""
    match form:
        case Format.JSONL:
            with (folder / "train.jsonl").open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{as_line(row)}\n" for block in blocks for row in block)
        case Format.PARQUET:
            _write_parquet(folder / "train.parquet", columns, blocks)
        case Format.HF:
            _write_shards(folder / "data", columns, blocks, shard_bytes)
        case Format.PARTITIONED:
            for name, group in itertools.groupby(blocks, key=lambda block: block[0]["round"]):
                _write_shards(folder / "data" / f"round={name}", columns, group, shard_bytes)


def as_line(row: dict[str, Any]) -> str:
    """A row as one line of JSON, whatever its texts hold."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False).translate(LINE_ENDS)


def _write_shards(folder: Path, columns: Columns, blocks: Blocks, shard_bytes: int) -> None:
    """Write blocks to files that each are closed once they have ``shard_bytes``."""
    folder.mkdir(parents=True)
    shards: list[Path] = []
    rest = iter(blocks)
    for first in rest:
        shards.append(folder / f"shard-{len(shards)}")
        _write_parquet(shards[-1], columns, itertools.chain([first], rest), most_bytes=shard_bytes)
    for place, shard in enumerate(shards):
        shard.rename(folder / f"train-{place:05}-of-{len(shards):05}.parquet")


def _write_parquet(path: Path, columns: Columns, blocks: Blocks, *, most_bytes: float = math.inf) -> None:
    """Write blocks until there are no more, or the file has ``most_bytes``."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = features(columns).arrow_schema
    with parquet.ParquetWriter(path, schema) as writer:
        for block in blocks:
            writer.write_table(pa.Table.from_pylist(list(block), schema=schema))
            if path.stat().st_size >= most_bytes:
                break
