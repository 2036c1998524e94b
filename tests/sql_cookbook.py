"""The queries of docs/sql.md: found, run, and their outputs pasted: `python -m tests.sql_cookbook WORKSPACE`."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path

from flywheel.report.tables import print_table
from flywheel.store.reading import query

PAGE = Path(__file__).parents[1] / "docs" / "sql.md"
QUERY = re.compile(r"```sql\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)
"""A query, and the output below it."""


def queries(page: str) -> list[tuple[str, str | None]]:
    """Each query of a page with its pasted output."""
    return [(match.group(1), match.group(2)) for match in QUERY.finditer(page)]


def output_of(store: Path, sql: str) -> str:
    """What `flywheel sql` prints of a query."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        print_table(query(store, sql))
    return out.getvalue()


def pasted(page: str, store: Path) -> str:
    """A page with the outputs of a workspace."""
    return QUERY.sub(lambda match: f"```sql\n{match[1]}```\n\n```text\n{output_of(store, match[1])}```\n", page)


if __name__ == "__main__":
    PAGE.write_text(pasted(PAGE.read_text(encoding="utf-8"), Path(sys.argv[1]) / "flywheel.duckdb"), encoding="utf-8")
