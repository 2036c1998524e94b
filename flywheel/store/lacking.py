"""What a database should have and has not: tables, columns, views."""

from __future__ import annotations

from pathlib import Path

import duckdb

from flywheel.errors import StoreError
from flywheel.store.migrating import apply, migrations


def refuse_lacking(db: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Raise StoreError where the database lacks something; then that is why a statement could not be understood."""
    if found := lacking(db):
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise StoreError(
            f"{path} is not as flywheel made it: {found[0]}{more}; put back a backup (`flywheel restore`), `flywheel doctor "
            "--deep` tells all that is amiss"
        )


def lacking(db: duckdb.DuckDBPyConnection) -> list[str]:
    """Tables, columns and views of the newest schema that are not there, a line each. What somebody has added is none."""
    with duckdb.connect(":memory:") as fresh:
        apply(fresh, migrations())
        wanted, there = _columns(fresh), _columns(db)
        views = sorted(_views(fresh) - _views(db))
    found = [f"the table {table} is not there" for table in wanted if table not in there]
    for table in (table for table in wanted if table in there):
        for column, type_ in wanted[table].items():
            other = there[table].get(column)
            if other is None:
                found.append(f"the column {column} of {table} is not there")
            elif other != type_:
                found.append(f"the column {column} of {table} is {other}, not {type_}")
    return [*found, *(f"the view {view} is not there" for view in views)]


def _columns(db: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    rows = db.execute(
        "SELECT table_name, column_name, c.data_type FROM duckdb_columns() AS c "
        "SEMI JOIN duckdb_tables() AS t USING (table_oid) WHERE NOT c.internal ORDER BY table_name, column_index"
    ).fetchall()
    found: dict[str, dict[str, str]] = {}
    for table, column, type_ in rows:
        found.setdefault(table, {})[column] = type_
    return found


def _views(db: duckdb.DuckDBPyConnection) -> set[str]:
    return {name for (name,) in db.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()}
