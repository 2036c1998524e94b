"""Files of tasks: seeds, held-out tasks and reworded instructions, one JSON object a line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from flywheel.core.files import encodable
from flywheel.errors import DataError
from flywheel.records import HeldOutTask, Reworded, SeedTask, Task

DEMOS = 3
"""Tasks that a propose prompt shows (Unnatural Instructions, section 2.1)."""
REWORDED_DEMOS = 2
"""Pairs that a paraphrase prompt shows (section 2.3)."""

LARGEST = 4 * 10**9
"""Bytes of a file, unpacked."""
LONGEST_LINE = 16 * 10**6
"""Characters of a line."""
LONGEST_FIELD = 10**6
"""Characters of a task's field: no model reads a tenth of it."""
FIX_LINE = "Fix or remove that line."


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a jsonl file, which may be gzipped, with their ``line``; raises DataError that names the line."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise DataError(f"{path} has more than {LARGEST / 1e9:.0f} GB", "Split the file.")
        # At line ends only: splitlines would also cut at characters that JSON allows inside a text.
        lines = content.decode("utf-8-sig").split("\n")
    except FileNotFoundError:
        raise DataError(f"file {path} not found", "Fix its path in the config.") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}", "It must be a readable UTF-8 file, or gzipped and named .gz.") from None
    rows = [
        _read_line(line, f"{path} line {number}") | {"line": number} for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not rows:
        raise DataError(f"{path} has no rows", "Add some, or fix its path in the config.")
    return rows


def _read_line(line: str, where: str) -> dict[str, Any]:
    if len(line) > LONGEST_LINE:
        raise DataError(f"{where} has {len(line):,} characters, the limit is {LONGEST_LINE:,}", "Remove that line.")
    try:
        row = json.loads(line)
    except RecursionError:
        raise DataError(f"{where} is not JSON (nested too deeply): {line[:60]!r}", FIX_LINE) from None
    except ValueError as error:  # without msg: a number of 5,000 digits
        reason = getattr(error, "msg", "a number too long")
        raise DataError(f"{where} is not JSON ({reason}): {line[:60]!r}", FIX_LINE) from None
    if not isinstance(row, dict):
        raise DataError(f"{where} must be an object, got {line[:60]!r}", FIX_LINE)
    return row


def text_field(row: dict[str, Any], name: str, path: Path, default: str | None = None) -> str:
    """A text of a row; raises DataError that names the line and the field."""
    value, field = row.get(name, default), f"{path} line {row['line']}: {name!r}"
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{field} must be a text, got {repr(value)[:60]}", FIX_LINE)
    if not encodable(value):
        raise DataError(f"{field} has an unpaired surrogate: {value[:60]!r}", FIX_LINE)
    if len(value) > LONGEST_FIELD:
        raise DataError(f"{field} has {len(value):,} characters, the limit is {LONGEST_FIELD:,}", "Shorten it.")
    return value


def _name(row: dict[str, Any], column: str) -> str | None:
    value = row.get(column)
    return None if value is None else str(value)


def read_task(row: dict[str, Any], path: Path) -> Task:
    """The task in a row; input and constraints may be missing."""
    return Task(
        instruction=text_field(row, "instruction", path),
        input=text_field(row, "input", path, default="None"),
        constraints=text_field(row, "constraints", path, default="None"),
    )


def read_tasks(path: Path) -> list[Task]:
    """The tasks of a file, without exact duplicates."""
    return list(dict.fromkeys(read_task(row, path) for row in read_lines(path)))


def read_held_out(path: Path) -> list[HeldOutTask]:
    """The held-out tasks of a file, without exact duplicates, with kind and reference answer where they have one."""
    tasks: dict[Task, HeldOutTask] = {}
    for row in read_lines(path):
        reference = text_field(row, "reference", path) if row.get("reference") is not None else None
        task = read_task(row, path)
        tasks.setdefault(task, HeldOutTask(task=task, kind=_name(row, "kind"), reference=reference))
    return list(tasks.values())


def read_seeds(path: Path) -> list[SeedTask]:
    """The seeds of a file. The tasks of a set are shown together, so each named set needs at least 3; so does the file.

    A file that names no set is one set.
    """
    rows = read_lines(path)
    named = any(row.get("set") is not None for row in rows)
    seeds = [
        SeedTask(task=read_task(row, path), set_name=_name(row, "set") if named else "all", kind=_name(row, "kind"))
        for row in rows
    ]
    for name, size in Counter(seed.set_name for seed in seeds if seed.set_name is not None).items():
        if size < DEMOS:
            raise DataError(f"{path}: seed set {name!r} has {size} tasks", f"Add some: a prompt shows {DEMOS} of a set.")
    return seeds


def read_reworded(path: Path) -> list[Reworded]:
    """Pairs of an instruction and an alternative wording; a prompt shows 2."""
    rows = read_lines(path)
    if len(rows) < REWORDED_DEMOS:
        raise DataError(f"{path} has {len(rows)} pairs", f"Add some: a prompt shows {REWORDED_DEMOS}.")
    return [
        Reworded(instruction=text_field(row, "instruction", path), alternative=text_field(row, "alternative", path))
        for row in rows
    ]
