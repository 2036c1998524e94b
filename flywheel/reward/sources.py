"""Rows of preference data from files, folders, saved datasets and hub ids."""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from flywheel.core.functions import reason_of
from flywheel.errors import DataError, first_line
from flywheel.instructions.tasks import LARGEST, read_lines

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz", ".json.gz", ".csv.gz")
UNPACKING = (OSError, EOFError, zlib.error)
"""What gzip raises for a file that is cut or corrupt."""


class Split(StrEnum):
    """What a row is for."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


SPLIT_NAMES = (
    dict.fromkeys(("train", "training"), Split.TRAIN)
    | dict.fromkeys(("validation", "valid", "val", "dev"), Split.VALIDATION)
    | dict.fromkeys(("test", "eval", "evaluation"), Split.TEST)
)
"""What files, columns and datasets call the splits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """A row of a file."""

    values: dict[str, Any]
    where: str
    """File and line or row, for messages."""
    split: Split | None
    """None where the source names no splits."""


def find_source(name: str, path: Path) -> list[Path]:
    """The files of a source, in order: ``path`` if it exists, else the download of a hub id.

    Raises DataError where there is neither, or nothing readable in it.
    """
    formats = ", ".join(SUFFIXES)
    if path.is_file():
        if not path.name.endswith(SUFFIXES):
            raise DataError(f"{path} has an unsupported file type", f"Use one of {formats}.")
        return [path]
    folder = path if path.is_dir() else _download(name, path)
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return sorted(folder.rglob("*.arrow"))
    files = sorted(file for file in folder.rglob("*") if file.name.endswith(SUFFIXES))
    if not files:
        raise DataError(f"{name} has no data files ({formats})", "Fix the path or hub id in the command or the config.")
    return files


def _download(name: str, path: Path) -> Path:
    owner, _, rest = name.partition("/")
    repository, _, inside = rest.partition("/")
    if not repository or name.startswith((".", "/", "~")) or name.endswith(SUFFIXES) or ".." in name.split("/"):
        raise DataError(f"file {path} not found", "Fix the path in the command or the config.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [f"{inside}/*{suffix}" if inside else f"*{suffix}" for suffix in SUFFIXES]
    try:
        root = snapshot_download(f"{owner}/{repository}", repo_type="dataset", allow_patterns=patterns)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        message = f"{name!r} is not a file or folder, and the hub cannot provide it: {first_line(error)}"
        raise DataError(message, "Check the name and the network connection.") from None
    return Path(root) / inside if inside else Path(root)


def read_source(files: list[Path]) -> Iterator[SourceRow]:
    """All rows of these files, each with the split that its file or folder is named after."""
    for path in files:
        split = split_in_name(path) if len(files) > 1 else None
        for where, values in _READERS[path.name.removesuffix(".gz").rpartition(".")[2]](path):
            yield SourceRow(values=values, where=f"{path} {where}", split=split)


def split_in_name(path: Path) -> Split | None:
    """The split that a file, or else its folder, is named after: ``train-00000-of-00003.parquet``, ``test/data.jsonl``."""
    words = (word for name in (path.name, path.parent.name) for word in re.split(r"[^a-z]+", name.lower()))
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


Located = Iterator[tuple[str, dict[str, Any]]]
"""Rows, each with its place in the file."""


def _read_jsonl(path: Path) -> Located:
    for row in read_lines(path):
        yield f"line {row.pop('line')}", row


def _read_json(path: Path) -> Located:
    try:
        with _open(path) as file:
            beginning = file.read(1024)
            is_list = beginning.lstrip().startswith("[")
            text = beginning + file.read(LARGEST) if is_list else "[]"
        if len(text) > LARGEST:
            raise DataError(f"{path} is larger than {LARGEST / 1e9:.0f} GB", "Split the file.")
        rows = json.loads(text)
    except (ValueError, RecursionError, *UNPACKING) as error:
        raise DataError(f"cannot read {path} as JSON: {reason_of(error)[:200]}", "Fix or convert the file.") from None
    if not is_list:
        yield from _read_jsonl(path)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{path} item {number} must be an object, got {str(row)[:60]!r}", "Fix or remove that item.")
        yield f"item {number}", row


def _read_csv(path: Path) -> Located:
    try:
        with _open(path) as file:
            reader = csv.DictReader(file)
            for row in reader:
                if None in row or None in row.values():
                    message = f"{path} line {reader.line_num} does not have as many cells as the header"
                    raise DataError(message, "Fix or remove that line.")
                yield f"line {reader.line_num}", dict(row)
    except (csv.Error, UnicodeDecodeError, *UNPACKING) as error:
        raise DataError(f"cannot read {path} as CSV: {error}", "Fix or convert the file.") from None


def _read_arrow(path: Path) -> Located:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with pa.memory_map(str(path)) as file:
            is_parquet = path.suffix == ".parquet"
            batches = parquet.ParquetFile(file).iter_batches() if is_parquet else pa.ipc.open_stream(file)
            rows = (row for batch in batches for row in batch.to_pylist())
            yield from ((f"row {number}", row) for number, row in enumerate(rows, start=1))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot read {path} as Parquet or Arrow: {error}", "Copy the file again.") from None


def _open(path: Path) -> Any:
    return gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else path.open(encoding="utf-8-sig", newline="")


_READERS = {"jsonl": _read_jsonl, "json": _read_json, "csv": _read_csv, "parquet": _read_arrow, "arrow": _read_arrow}
