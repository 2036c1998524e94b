"""Rows to files, a block at a time: a round of any size takes the memory of one block."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flywheel.export.shapes import Columns, Format, arrow_schema

Blocks = Iterable[Sequence[dict[str, Any]]]
SHARD_BYTES = 256 * 2**20
LINE_ENDS = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})
"""Characters that some readers take for the end of a line, and JSON leaves unescaped."""


def write_rows(folder: Path, form: Format, columns: Columns, blocks: Blocks, *, shard_bytes: int = SHARD_BYTES) -> int:
    """Write the rows into a folder in a format, and return their number; the blocks come round by round."""
    if form == Format.JSONL:
        return _write_lines(folder / "train.jsonl", blocks)
    if form == Format.PARQUET:
        return _write_parquet(folder / "train.parquet", columns, blocks)
    if form == Format.HF:
        return _write_shards(folder / "data", columns, blocks, shard_bytes)
    rounds = itertools.groupby(blocks, key=lambda block: block[0]["round"])
    return sum(_write_shards(folder / "data" / f"round={name}", columns, group, shard_bytes) for name, group in rounds)


def data_files(form: Format) -> str:
    """The pattern of a format's files, for the card."""
    return {
        Format.JSONL: "train.jsonl",
        Format.PARQUET: "train.parquet",
        Format.PARTITIONED: "data/*/train-*.parquet",
        Format.HF: "data/train-*.parquet",
    }[form]


def as_line(row: dict[str, Any]) -> str:
    """A row as one line of JSON, whatever its texts hold."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False).translate(LINE_ENDS)


def _write_lines(path: Path, blocks: Blocks) -> int:
    rows = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for block in blocks:
            file.writelines(f"{as_line(row)}\n" for row in block)
            rows += len(block)
    return rows


def _write_shards(folder: Path, columns: Columns, blocks: Blocks, shard_bytes: int) -> int:
    """Write blocks to files that each are closed once they have ``shard_bytes``."""
    folder.mkdir(parents=True)
    shards: list[Path] = []
    rows, left = 0, iter(blocks)
    for first in left:
        shards.append(folder / f"shard-{len(shards)}")
        rows += _write_parquet(shards[-1], columns, itertools.chain([first], left), most_bytes=shard_bytes)
    for place, shard in enumerate(shards):
        shard.rename(folder / f"train-{place:05}-of-{len(shards):05}.parquet")
    return rows


def _write_parquet(path: Path, columns: Columns, blocks: Blocks, *, most_bytes: int | None = None) -> int:
    """Write blocks until there are no more, or the file has ``most_bytes``."""
    import pyarrow as pa
    from pyarrow import parquet

    schema, rows = arrow_schema(columns), 0
    with parquet.ParquetWriter(path, schema) as writer:
        for block in blocks:
            writer.write_table(pa.Table.from_pylist(list(block), schema=schema))
            rows += len(block)
            if most_bytes is not None and path.stat().st_size >= most_bytes:
                break
    return rows
