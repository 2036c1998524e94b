"""What SQL of a user's own may do: read this database, one statement at a time, within limits."""

from __future__ import annotations

import sys
from typing import Any

import duckdb

from flywheel.core.files import encodable
from flywheel.errors import StoreError

LONGEST_STATEMENT = 100_000
"""Characters of a statement; DuckDB's own parser runs out of its stack at some 400,000."""
MOST_BYTES = 2**30
"""Bytes that the values of a result may take in memory."""
BLOCK = 2_000
"""Rows fetched between two looks at the size."""
READING = {
    duckdb.StatementType.SELECT,
    duckdb.StatementType.EXPLAIN,
    duckdb.StatementType.MULTI,  # PIVOT
    duckdb.StatementType.PRAGMA,
    duckdb.StatementType.CALL,
}
WRITES = "flywheel sql only reads; open the file with duckdb to change it, --out writes what a query finds to a file"
READ_ONLY: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "lock_configuration": True,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    # A query that sorts more than there is memory for must not fill the disk of a round that is running.
    "max_temp_directory_size": "20GB",
}
"""Settings under which a connection reads: no other file, no network, no extension, and nothing turns it back on."""


def check_statement(db: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raise StoreError unless this is one statement that may read; duckdb.Error where it is not SQL."""
    if not encodable(sql):
        raise StoreError("the statement has half a character, which is no text; type it anew")
    if len(sql) > LONGEST_STATEMENT:
        raise StoreError(f"the statement has {len(sql):,} characters, {LONGEST_STATEMENT:,} are taken; shorten it")
    statements = db.extract_statements(sql)
    if len(statements) != 1:
        raise StoreError(f"one SQL statement at a time, got {len(statements)} (in: {' '.join(sql.split())[:80]!r})")
    if statements[0].type not in READING:
        raise StoreError(f"{WRITES} (in: {' '.join(sql.split())[:80]})")


def fetch(cursor: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    """All rows; raises StoreError where they take more than `MOST_BYTES`."""
    rows: list[tuple[Any, ...]] = []
    size = 0
    while block := cursor.fetchmany(BLOCK):
        rows += block
        size += sum(sys.getsizeof(value) for row in block for value in row)
        if size > MOST_BYTES:
            raise StoreError(f"the result is larger than {MOST_BYTES / 1e9:.1f} GB; add LIMIT, or aggregate")
    return rows
