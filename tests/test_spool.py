"""Rows in a file: they come back as they were, and memory has none of them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from flywheel.core.spool import Spooled
from flywheel.errors import StoreError
from flywheel.records import Task, Winner


def winners(count: int) -> Iterator[Winner]:
    return (Winner(task=Task(instruction=f"Sort {place}.", input="b, a"), output="a, b" * 50) for place in range(count))


def test_rows_come_back_in_any_order(tmp_path: Path) -> None:
    rows, spooled = list(winners(100)), Spooled(winners(100), tmp_path)
    assert len(spooled) == 100
    assert [spooled[place] for place in (99, 0, 50, -1)] == [rows[place] for place in (99, 0, 50, -1)]
    assert spooled[10:13] == rows[10:13]
    assert list(spooled) == rows
    assert not list(tmp_path.iterdir()), "the file has no name: nothing is left, however the process ends"
    with pytest.raises(IndexError):
        spooled[100]


def test_memory_has_where_rows_begin_and_not_the_rows(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        kept = Spooled(winners(20_000), tmp_path)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 20 * len(kept)


def test_a_folder_that_cannot_be_written_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="gone"):
        Spooled(winners(1), tmp_path / "gone")
