"""Rows to files, a block at a time: a round of any size is written in the memory of one block."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flywheel.export.shapes import Columns, Format, arrow_schema

Blocks = Iterable[Sequence[dict[str, Any]]]
SHARD_BYTES = 256 * 2**20
"""A shard of the hf format that has grown to this is closed, and the next begun."""
LINE_ENDS = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})
"""What some readers take for the end of a line, and JSON leaves as it is."""


def write_rows(folder: Path, form: Format, found: Columns, blocks: Blocks, *, shard_bytes: int = SHARD_BYTES) -> int:
    """Write the rows into a folder as the format has them; returns how many."""
    if form == Format.JSONL:
        return _write_lines(folder / "train.jsonl", blocks)
    if form == Format.PARQUET:
        return _write_parquet(folder / "train.parquet", found, blocks)
    if form == Format.PARTITIONED:
        # The blocks come round by round.
        rounds = itertools.groupby(blocks, key=lambda block: block[0]["round"])
        return sum(_write_shards(folder / "data" / f"round={name}", found, one, shard_bytes) for name, one in rounds)
    return _write_shards(folder / "data", found, blocks, shard_bytes)


def data_files(form: Format) -> str:
    """Where a card says that the rows are."""
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


def _write_shards(folder: Path, found: Columns, blocks: Blocks, shard_bytes: int) -> int:
    folder.mkdir(parents=True)
    shards: list[Path] = []
    rows, left = 0, iter(blocks)
    for first in left:
        shards.append(folder / f"shard-{len(shards)}")
        rows += _write_parquet(shards[-1], found, itertools.chain([first], left), most_bytes=shard_bytes)
    for place, shard in enumerate(shards):
        shard.rename(folder / f"train-{place:05}-of-{len(shards):05}.parquet")
    return rows


def _write_parquet(path: Path, found: Columns, blocks: Blocks, *, most_bytes: int | None = None) -> int:
    """Write blocks until there are no more, or the file has grown to ``most_bytes``."""
    import pyarrow as pa
    from pyarrow import parquet

    schema, rows = arrow_schema(found), 0
    with parquet.ParquetWriter(path, schema) as writer:
        for block in blocks:
            writer.write_table(pa.Table.from_pylist(list(block), schema=schema))
            rows += len(block)
            if most_bytes is not None and path.stat().st_size >= most_bytes:
                break
    return rows
