"""A database with a block that cannot be read: every command that meets it reports it and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.store.recorded import break_text, recorded_round


@pytest.mark.parametrize(
    "command",
    [
        ["sql", "SELECT * FROM tasks"], ["sql", "SELECT sum(length(raw)) FROM tasks"], ["backup", "{}/backup"],
    ],
    ids=lambda command: " ".join(command[:2]),
)  # fmt: skip
def test_a_damaged_block_is_reported_with_a_hint(command: list[str], tmp_path: Path, cli: Cli) -> None:
    workspace = recorded_round(tmp_path / "workspace", 500)
    path = workspace.store.path
    break_text(path)
    outcome = cli("-w", workspace.folder, *(argument.format(tmp_path) for argument in command))
    assert outcome.code == 1
    assert str(path) in outcome.error
    assert "Corrupt" in outcome.error
    assert "restore DIR" in outcome.hint
    assert [file.name for file in tmp_path.iterdir()] == ["workspace"]
