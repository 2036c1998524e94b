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


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a jsonl file, which may be gzipped; raises DataError that names the line."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise DataError(f"{path} holds more than {LARGEST / 1e9:.0f} GB; split it")
        # At line ends only: splitlines would also cut at characters that JSON allows inside a text.
        lines = content.decode("utf-8-sig").split("\n")
    except FileNotFoundError:
        raise DataError(f"no file {path}; mend its path in the config") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if len(line) > LONGEST_LINE:
            raise DataError(f"{path} line {number} has {len(line):,} characters, {LONGEST_LINE:,} are taken; remove the line")
        try:
            row = json.loads(line)
        except (
            ValueError,
            RecursionError,
        ) as error:  # a ValueError: a number of 5,000 digits
            what = getattr(error, "msg", "nested too deeply" if isinstance(error, RecursionError) else "a number too long")
            raise DataError(f"{path} line {number} is not JSON ({what}): {line[:60]!r}; mend or remove the line") from None
        if not isinstance(row, dict):
            raise DataError(f"{path} line {number} must be an object, it is {line[:60]!r}; mend or remove the line")
        rows.append(row | {"line": number})
    if not rows:
        raise DataError(f"{path} has no rows; a run needs some")
    return rows


def text_field(row: dict[str, Any], name: str, path: Path, default: str | None = None) -> str:
    """A text of a row; raises DataError that names the line and the field."""
    value, where = row.get(name, default), f"{path} line {row['line']}"
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: {name!r} must be a text, got {repr(value)[:60]}; mend or remove the line")
    if not encodable(value):
        raise DataError(f"{where}: {name!r} has half a character, {value[:60]!r}; mend or remove the line")
    if len(value) > LONGEST_FIELD:
        raise DataError(f"{where}: {name!r} has {len(value):,} characters, {LONGEST_FIELD:,} are taken; shorten it")
    return value


def read_task(row: dict[str, Any], path: Path) -> Task:
    """The task in a row; constraints may be left out."""
    return Task(
        instruction=text_field(row, "instruction", path),
        input=text_field(row, "input", path, default="None"),
        constraints=text_field(row, "constraints", path, default="None"),
    )


def read_tasks(path: Path) -> list[Task]:
    """The tasks of a file, without repeats."""
    return list(dict.fromkeys(read_task(row, path) for row in read_lines(path)))


def read_held_out(path: Path) -> list[HeldOutTask]:
    """The held-out tasks of a file, without repeats, with kind and reference answer where they have one."""
    found: dict[Task, HeldOutTask] = {}
    for row in read_lines(path):
        reference = text_field(row, "reference", path) if row.get("reference") is not None else None
        task = read_task(row, path)
        found.setdefault(task, HeldOutTask(task=task, kind=_name(row, "kind"), reference=reference))
    return list(found.values())


def read_seeds(path: Path) -> list[SeedTask]:
    """The seeds of a file. A set is shown together, so each that is named needs at least 3; so does the file.

    A file that names no set is one set.
    """
    rows = read_lines(path)
    named = any(row.get("set") is not None for row in rows)
    seeds = [
        SeedTask(task=read_task(row, path), set_name=_name(row, "set") if named else "all", kind=_name(row, "kind"))
        for row in rows
    ]
    sizes = Counter(seed.set_name for seed in seeds if seed.set_name is not None)
    for name, size in sizes.items():
        if size < DEMOS:
            raise DataError(f"{path}: seed set {name!r} has {size} tasks; a prompt shows {DEMOS}, so add some")
    return seeds


def read_reworded(path: Path) -> list[Reworded]:
    """Pairs of an instruction and another way to say it; a prompt shows 2."""
    rows = read_lines(path)
    if len(rows) < REWORDED_DEMOS:
        raise DataError(f"{path} has {len(rows)} pairs; a prompt shows {REWORDED_DEMOS}, so add some")
    return [
        Reworded(instruction=text_field(row, "instruction", path), alternative=text_field(row, "alternative", path))
        for row in rows
    ]


def _name(row: dict[str, Any], column: str) -> str | None:
    value = row.get(column)
    return None if value is None else str(value)
