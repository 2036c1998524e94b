"""Connections to the database of a workspace, each held only for a moment.

DuckDB allows either one writing process or several reading ones. No connection stays open while a model runs, so that
`flywheel compare` or a notebook can read a workspace in the meantime.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import duckdb

from flywheel.errors import StoreError
from flywheel.store.migrating import migrate, migrations, refuse_incomplete, refuse_newer, schema_version
from flywheel.store.opening import file_errors, open_file, read_every_block


@contextmanager
def connection(path: Path, *, read_only: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection for the length of the block; a writing block is one transaction. An older schema is upgraded first.

    Raises StoreHeld if another process holds the file for too long, and StoreError if the file cannot be opened, read or
    written, has no table or column that a statement needs, or is of a newer flywheel.
    """
    if read_only and not path.exists():
        raise StoreError(
            f"no database at {path}",
            "Choose the workspace with --workspace, or create one with `flywheel round` or `flywheel restore`.",
        )
    db = open_file(path, read_only=read_only)
    try:
        with file_errors(path, "read" if read_only else "write"):
            if read_only:
                if 0 < schema_version(db) < migrations()[-1][0]:
                    db.close()
                    migrate(path)
                    db = open_file(path, read_only=True)
                _refuse_other_schemas(db, path)
                yield db
            else:
                db.begin()
                yield db
                db.commit()
    except (duckdb.BinderException, duckdb.CatalogException):
        db.close()  # an aborted transaction allows no query
        db = open_file(path, read_only=True)
        refuse_incomplete(db, path)
        raise
    finally:
        db.close()  # rolls back what is not committed


def _refuse_other_schemas(db: duckdb.DuckDBPyConnection, path: Path) -> None:
    refuse_newer(db, path)
    if schema_version(db) == 0:
        raise StoreError(f"{path} has no flywheel tables", "Choose another workspace with --workspace.")


def verify(path: Path) -> None:
    """Raise StoreError if a block of a database of any schema cannot be read."""
    with file_errors(path, "read"), closing(open_file(path, read_only=True)) as db:
        read_every_block(db)


def snapshot(path: Path, to: Path) -> None:
    """Copy a database at one instant, and verify the copy; writers wait in the meantime. Raises StoreError."""
    # The files are closed after the connection, because closing one of them releases all locks of the process on it.
    with file_errors(path, "copy"), ExitStack() as stack, closing(open_file(path, read_only=True)) as db:
        _refuse_other_schemas(db, path)
        for suffix in ("", ".wal"):  # a killed process leaves its log
            source, target = (file.with_name(file.name + suffix) for file in (path, to))
            if source.exists():
                with target.open("wb") as copy:
                    shutil.copyfileobj(stack.enter_context(source.open("rb")), copy, length=1 << 20)
    with file_errors(path, "copy"), closing(open_file(to, read_only=False)) as db:
        db.execute("CHECKPOINT")
        read_every_block(db)
