"""What a user's SQL may do: read this database, one statement at a time, within limits."""

from __future__ import annotations

import sys
from typing import Any

import duckdb

from flywheel.core.files import encodable
from flywheel.errors import StoreError

MAX_CHARACTERS = 100_000
"""Of a statement; DuckDB's own parser overflows its stack at about 400,000."""
MAX_BYTES = 2**30
"""Memory that the values of a result may take."""
FETCHED_ROWS = 2_000
"""Rows fetched before the size is checked again."""
READING = {
    duckdb.StatementType.SELECT,
    duckdb.StatementType.EXPLAIN,
    duckdb.StatementType.MULTI,  # PIVOT
    duckdb.StatementType.PRAGMA,
    duckdb.StatementType.CALL,
}
READS_ONLY = "flywheel sql only reads the database"
READS_ONLY_HINT = "Use --out to write a result to a file. To change the database, open it with duckdb."
READ_ONLY: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "lock_configuration": True,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    # A query that sorts more than fits into memory must not fill the disk of a running round.
    "max_temp_directory_size": "20GB",
}
"""Settings of a reading connection: no other file, no network, no extension, and no way to change that."""


def check_statement(db: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raise StoreError unless this is one statement that only reads; duckdb.Error if it is not SQL."""
    if not encodable(sql):
        raise StoreError("the statement has an unpaired surrogate character", "Remove it or type it again.")
    if len(sql) > MAX_CHARACTERS:
        raise StoreError(f"the statement has {len(sql):,} characters; the limit is {MAX_CHARACTERS:,}", "Shorten it.")
    statements = db.extract_statements(sql)
    if len(statements) != 1:
        raise StoreError(f"expected one SQL statement, got {len(statements)}: {excerpt(sql)}", "Run them one by one.")
    if statements[0].type not in READING:
        raise StoreError(f"{READS_ONLY}: {excerpt(sql)}", READS_ONLY_HINT)


def excerpt(sql: str) -> str:
    """The start of a statement, on one line."""
    return repr(" ".join(sql.split())[:80])


def fetch(cursor: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    """All rows; raises StoreError if they take more than `MAX_BYTES`."""
    rows: list[tuple[Any, ...]] = []
    size = 0
    while block := cursor.fetchmany(FETCHED_ROWS):
        rows += block
        size += sum(sys.getsizeof(value) for row in block for value in row)
        if size > MAX_BYTES:
            raise StoreError(f"the result is larger than {MAX_BYTES / 1e9:.1f} GB", "Add LIMIT, or aggregate.")
    return rows
