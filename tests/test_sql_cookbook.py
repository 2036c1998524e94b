"""docs/sql.md holds: every query runs on a finished round and gives the columns that the page shows."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from flywheel.store.reading import query
from tests.sql_cookbook import PAGE, pasted, queries

FOUND = queries(PAGE.read_text(encoding="utf-8"))


def test_the_page_answers_many_questions() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert len(FOUND) >= 18
    assert page.count("\n### ") == len(FOUND) == page.count("```sql\n")


@pytest.mark.parametrize("place", range(len(FOUND)))
def test_a_query_runs_and_gives_the_columns_shown(place: int, turned: Path) -> None:
    sql, shown = FOUND[place]
    assert shown is not None, "no output is pasted: python -m tests.sql_cookbook WORKSPACE"
    assert list(query(turned / "flywheel.duckdb", sql).columns) == shown.splitlines()[0].split()


def test_the_outputs_of_the_page_can_be_replaced(turned: Path) -> None:
    once = pasted(PAGE.read_text(encoding="utf-8"), turned / "flywheel.duckdb")
    assert pasted(once, turned / "flywheel.duckdb") == once
    assert len(queries(once)) == len(FOUND)


def test_the_python_of_the_page_runs(turned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("workspace", "other"):
        (tmp_path / name).mkdir()
        shutil.copy(turned / "flywheel.duckdb", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        exec(block, scope)
    assert scope["winners"].num_rows  # type: ignore[attr-defined]
    assert {row[0] for row in scope["both"]} == {"here", "there"}  # type: ignore[attr-defined]
