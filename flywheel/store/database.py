"""The database of a workspace: opened for moments only, so that others can read it in between.

DuckDB lets one process write, or several read. Nobody keeps a connection while a model runs, so that a
`flywheel compare` or a notebook can read in between; whoever comes second tries again for a while.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import duckdb

from flywheel.core.files import copy_whole
from flywheel.errors import StoreError
from flywheel.store.lacking import refuse_lacking
from flywheel.store.migrating import migrate, migrations, refuse_other_schemas, schema_of
from flywheel.store.opening import WAIT_S, WAIT_TO_WRITE_S, open_file, read_every_block, telling_faults


@contextmanager
def connection(path: Path, *, read_only: bool = True, wait_s: float | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection for the length of the block; for writing, the block is one transaction.

    Raises StoreHeld where another process holds the file for longer than ``wait_s`` seconds, StoreError where it cannot be
    opened, read or written, lacks a table or column, or was written by a newer flywheel. One of an older flywheel is
    upgraded first.
    """
    if wait_s is None:
        wait_s = WAIT_S if read_only else WAIT_TO_WRITE_S
    if read_only and not path.exists():
        raise StoreError(
            f"no database at {path}; name the workspace with --workspace, `flywheel restore` a backup, or make one with "
            "`flywheel round`"
        )
    opened = open_file(path, read_only=read_only, wait_s=wait_s)
    try:
        with telling_faults(path, "read" if read_only else "write"):
            if read_only:
                if 0 < schema_of(opened) < migrations()[-1][0]:
                    opened.close()
                    migrate(path)
                    opened = open_file(path, read_only=True, wait_s=wait_s)
                refuse_other_schemas(opened, path)
                yield opened
                return
            opened.begin()
            try:
                yield opened
            except BaseException:
                with suppress(duckdb.Error):  # a connection that a full disk has broken has nothing to roll back
                    opened.rollback()
                raise
            opened.commit()
    except (duckdb.BinderException, duckdb.CatalogException):
        refuse_lacking(opened, path)
        raise
    finally:
        opened.close()


def refuse_broken(path: Path) -> None:
    """Raise StoreError where a block of a database, of any schema, cannot be read."""
    with telling_faults(path, "read"), closing(open_file(path, read_only=True, wait_s=WAIT_S)) as db:
        read_every_block(db)


def snapshot(path: Path, to: Path) -> None:
    """Copy a database as it is at this instant; who writes to it waits meanwhile.

    Raises StoreError as `connection` does, and where a block of the copy cannot be read.
    """
    waiting = path.with_name(path.name + ".wal")
    # As in `migrate`: closed after the connection, which keeps writers out.
    with telling_faults(path, "copy"), ExitStack() as opened:
        file = opened.enter_context(path.open("rb"))
        with closing(open_file(path, read_only=True, wait_s=WAIT_S)) as db:
            refuse_other_schemas(db, path)
            copy_whole(file, to)
            if waiting.exists():  # of a process that was killed
                copy_whole(opened.enter_context(waiting.open("rb")), to.with_name(to.name + ".wal"))
    with telling_faults(path, "copy"), closing(open_file(to, read_only=False, wait_s=WAIT_S)) as db:
        db.execute("CHECKPOINT")
        read_every_block(db)
