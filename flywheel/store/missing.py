"""Which parts of the schema a database does not have: tables, columns, views. Extra ones are allowed."""

from __future__ import annotations

from pathlib import Path

import duckdb

from flywheel.errors import StoreError
from flywheel.store.migrating import apply, migrations
from flywheel.store.opening import RESTORE


def refuse_incomplete(db: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Raise StoreError if a part of the schema is missing."""
    if missing := missing_parts(db):
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise StoreError(f"the schema of {path} was changed: {missing[0]}{more}", RESTORE)


def missing_parts(db: duckdb.DuckDBPyConnection) -> list[str]:
    """One line for each table or view, and for each column with its type, that is missing."""
    with duckdb.connect(":memory:") as fresh:
        apply(fresh, migrations())
        expected = _columns(fresh)
    actual = _columns(db)
    tables = {table for table, _ in actual}
    missing = [(table, column) for table, column in expected if (table, column) not in actual]
    names = (f"{table}.{column}" if table in tables else table for table, column in missing)
    return [f"{name} is missing" for name in dict.fromkeys(names)]


def _columns(db: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    sql = "SELECT table_name, column_name || ' ' || data_type FROM duckdb_columns() WHERE NOT internal ORDER BY ALL"
    return db.execute(sql).fetchall()
