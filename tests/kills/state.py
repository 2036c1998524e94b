"""All that a workspace holds, without times and places, so that two can be compared."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

TIMES = ("created_at", "started_at", "finished_at", "applied_at", "tried_at", "seconds", "cost")
PLACE = re.compile(rb"/[^\s\"]*/workspace/")
TEXTS = (".json", ".yaml", ".md", ".txt")
FINAL = ("flywheel.duckdb", "flywheel.duckdb.wal", "at-work.lock", "at-work.pid")
State = dict[str, list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a workspace lacks, and has twice, beside another; and which other rows and files are not the same."""

    lost: int
    twice: int
    other: tuple[str, ...]


def state(folder: Path) -> State:
    """The rows of every table, and the files, each as text."""
    return rows(folder / "flywheel.duckdb") | {"files": files(folder)}


def rows(path: Path) -> State:
    found: State = {}
    with duckdb.connect(str(path), read_only=True) as db:
        for (table,) in db.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal ORDER BY ALL").fetchall():
            cursor = db.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in cursor.description or ()]
            found[table] = sorted(
                json.dumps([[name, _timeless(value)] for name, value in zip(names, row, strict=True) if name not in TIMES])
                for row in cursor.fetchall()
            )
        schema = "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() WHERE NOT internal"
        found["schema"] = sorted(str(row) for row in db.execute(schema).fetchall())
    return found


def _timeless(value: Any) -> Any:
    """A value without the seconds that a model's facts tell."""
    if isinstance(value, str) and value.startswith("{"):
        return {name: one for name, one in json.loads(value).items() if name != "seconds"}
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def files(folder: Path) -> list[str]:
    """Path and digest of every file, but for the database and its locks."""
    return sorted(
        f"{path.relative_to(folder)} {digest(path)}"
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).as_posix() not in FINAL
    )


def digest(path: Path) -> str:
    """The digest of a file's bytes; in texts the workspace's own place does not count."""
    content = path.read_bytes()
    if path.suffix in TEXTS:
        content = PLACE.sub(b"WORKSPACE/", content)
    return hashlib.sha256(content).hexdigest()[:16]


def half_written(folder: Path, whole: list[str]) -> list[str]:
    """Files of models under a final name that are not as they must be: none of these may ever be there."""
    known = set(whole)
    return [
        one
        for one in files(folder)
        if one.startswith("models/") and not any(mark in one.split()[0] for mark in (".tmp/", ".training/", ".old/"))
        if one not in known
    ]


def compare(wanted: State, found: State) -> Difference:
    """How a workspace differs from what it should be."""
    lost = twice = 0
    other = []
    for name in sorted(wanted.keys() | found.keys()):
        should, has = Counter(wanted.get(name, [])), Counter(found.get(name, []))
        missing, more = should - has, has - should
        lost += sum(missing.values())
        twice += sum(count for row, count in more.items() if row in should)
        other += [f"{name}: {row[:300]}" for row in more if row not in should]
    return Difference(lost=lost, twice=twice, other=tuple(other))
