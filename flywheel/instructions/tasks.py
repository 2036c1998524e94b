"""Files of tasks: seeds, held-out tasks and reworded instructions, one JSON object a line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from flywheel.core.files import encodable
from flywheel.errors import DataError, first_line
from flywheel.records import HeldOutTask, Reworded, SeedTask, Task

DEMOS = 3
"""Tasks that a propose prompt shows (Unnatural Instructions, section 2.1)."""
REWORDED_DEMOS = 2
"""Pairs that a paraphrase prompt shows (section 2.3)."""

LARGEST = 4 * 10**9
"""Bytes of a file, unpacked."""
LONGEST_FIELD = 10**6
"""Characters of a task's field: no model reads a tenth of it."""
FIX_LINE = "Fix or remove that line."
OMIT = "Remove the field from that line, or give it a text."


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a jsonl file, which may be gzipped, with their ``line``; raises DataError that names the line."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise DataError(f"{path} has over {LARGEST / 1e9:.0f} GB of text", "Shorten it; preference data can be split.")
        # At line ends only: splitlines would also cut at characters that JSON allows inside a text.
        lines = content.decode("utf-8-sig").split("\n")
    except FileNotFoundError:
        raise DataError(f"file {path} not found", "Fix the path in the command or the config.") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read {path}: {error}", "Make it a readable UTF-8 file, gzipped only if its name ends in .gz."
        ) from None
    rows = [
        _read_line(line, f"{path} line {number}") | {"line": number} for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not rows:
        raise DataError(f"{path} has no rows", "Add rows, or fix the path in the command or the config.")
    return rows


def _read_line(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # without msg: a number of 5,000 digits, or nested too deeply
        raise DataError(f"{where} is not JSON ({getattr(error, 'msg', first_line(error))}): {line[:60]!r}", FIX_LINE) from None
    if not isinstance(row, dict):
        raise DataError(f"{where} must be a JSON object, got {line[:60]!r}", FIX_LINE)
    return row


def _text(row: dict[str, Any], name: str, path: Path, default: str | None = None) -> str:
    value, field = row.get(name, default), f"{path} line {row['line']}: {name!r}"
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{field} must be a non-empty string, got {repr(value)[:60]}", FIX_LINE if default is None else OMIT)
    if not encodable(value):
        raise DataError(f"{field} is not valid Unicode (\\ud800 to \\udfff come in pairs): {value[:60]!r}", FIX_LINE)
    if len(value) > LONGEST_FIELD:
        raise DataError(f"{field} has {len(value):,} characters, the limit is {LONGEST_FIELD:,}", FIX_LINE)
    return value


def _name(row: dict[str, Any], column: str, default: str | None = None) -> str | None:
    value = row.get(column)
    return default if value is None else str(value)


def _task(row: dict[str, Any], path: Path) -> Task:
    instruction = _text(row, "instruction", path)
    text, constraints = (_text(row, name, path, default="None") for name in ("input", "constraints"))
    return Task(instruction=instruction, input=text, constraints=constraints)


def read_tasks(path: Path) -> list[Task]:
    """The tasks of a file, without exact duplicates."""
    return list(dict.fromkeys(_task(row, path) for row in read_lines(path)))


def read_held_out(path: Path) -> list[HeldOutTask]:
    """The held-out tasks of a file, without exact duplicates, with kind and reference answer where they have one."""
    tasks: dict[Task, HeldOutTask] = {}
    for row in read_lines(path):
        reference = _text(row, "reference", path) if row.get("reference") is not None else None
        task = _task(row, path)
        tasks.setdefault(task, HeldOutTask(task=task, kind=_name(row, "kind"), reference=reference))
    return list(tasks.values())


def read_seeds(path: Path) -> list[SeedTask]:
    """The seeds of a file. The tasks of a set are shown together, so each named set needs at least 3; so does the file.

    A file that names no set is one set.
    """
    rows = read_lines(path)
    default = None if any(row.get("set") is not None for row in rows) else "all"
    seeds = [SeedTask(task=_task(row, path), set_name=_name(row, "set", default), kind=_name(row, "kind")) for row in rows]
    for name, size in Counter(seed.set_name for seed in seeds if seed.set_name is not None).items():
        if size < DEMOS:
            hint = f"Add tasks; a prompt shows {DEMOS} together."
            place = f": seed set {name!r}" if default is None else ""
            raise DataError(f"{path}{place} has fewer than {DEMOS} tasks: {size}", hint)
    return seeds


def read_reworded(path: Path) -> list[Reworded]:
    """Pairs of an instruction and an alternative wording; a prompt shows 2."""
    rows = read_lines(path)
    if len(rows) < REWORDED_DEMOS:
        hint = f"Add pairs; a prompt shows {REWORDED_DEMOS} of them."
        raise DataError(f"{path} has fewer than {REWORDED_DEMOS} pairs: {len(rows)}", hint)
    return [Reworded(instruction=_text(row, "instruction", path), alternative=_text(row, "alternative", path)) for row in rows]
