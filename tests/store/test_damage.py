"""Blocks that cannot be read: every command that meets one says so in one line, and nothing is built on such a file."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from flywheel.store.store import Store
from tests.conftest import Cli
from tests.store.test_migrations import OLD, unpacked

REMEDY = "where the file is damaged, `flywheel restore` a backup"


def break_block(path: Path) -> None:
    """Turn a byte of an instruction, where it lies in a block of the table of tasks."""
    with duckdb.connect(str(path), read_only=True) as db:
        texts = db.execute("SELECT raw FROM tasks WHERE length(raw) > 60").fetchall()
    content = bytearray(path.read_bytes())
    place = next(place for (text,) in texts if (place := content.find(text.encode()[20:40])) > 0)
    content[place] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    "command",
    [
        ["sql", "SELECT * FROM tasks"], ["sql", "SELECT sum(length(raw)) FROM tasks"], ["backup", "{}/backup"],
        ["export", "r1", "--to", "{}/export"],
    ],
    ids=lambda command: " ".join(command[:2]),
)  # fmt: skip
def test_a_broken_block_is_told_in_one_line_with_what_to_do(command: list[str], tmp_path: Path, cli: Cli) -> None:
    folder = tmp_path / "workspace"
    folder.mkdir()
    path = unpacked(OLD[-1], folder)
    Store(path).migrate()
    break_block(path)
    outcome = cli("-w", folder, *(one.format(tmp_path) for one in command))
    assert outcome.code == 1
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: cannot ")
    assert f"{path}: Corrupt database file" in line
    assert line.endswith(REMEDY)
    assert [one.name for one in tmp_path.iterdir()] == ["workspace"]


@pytest.mark.parametrize("schema", OLD)
def test_an_old_database_that_cannot_be_read_is_not_upgraded(schema: int, tmp_path: Path, cli: Cli) -> None:
    path = unpacked(schema, tmp_path)
    break_block(path)
    before = path.read_bytes()
    outcome = cli("-w", tmp_path, "rounds")
    assert outcome.code == 1
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"error: cannot upgrade {path}: Corrupt database file")
    assert line.endswith(REMEDY)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
