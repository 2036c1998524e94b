"""Open a DuckDB file: wait while another process holds it, and turn DuckDB's errors about the file into `StoreError`."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from flywheel.core.faults import machine_fault
from flywheel.errors import StoreError, StoreHeld, first_line

WAIT_TO_READ_S = 60.0
WAIT_TO_WRITE_S = 300.0
"""Longer than to read: the rows that wait to be written may be hours of work."""
WARN_AFTER_S = 5.0
"""Waiting for longer than this is logged."""
FILE_ERRORS = (duckdb.OperationalError, duckdb.InternalError, duckdb.FatalException)
"""What DuckDB raises if the file, its disk or the memory is at fault, rather than the statement."""
HELD = ("lock on file", "different configuration", "already attached")
"""Parts of DuckDB's messages about a file that another process, or another thread of this process, has opened differently."""
MEMORY = "FLYWHEEL_DATABASE_MEMORY"
"""Environment variable with DuckDB's memory limit, as a size or a share; DuckDB spills to a folder beside the database."""
DEFAULT_MEMORY = "25%"
"""Models need the rest."""
READ_ONLY: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoload_known_extensions": False,
    "lock_configuration": True,
    # A query that sorts more than fits into memory must not fill the disk of a running round.
    "max_temp_directory_size": "20GB",
}
"""Settings of a reading connection: no other file, no network, no extension, and no way to change that."""
RESTORE = "Restore a backup to a new workspace: `flywheel --workspace OTHER restore DIR`."


def open_file(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """Open a database of any schema version.

    Raises StoreHeld if another process holds it for too long, StoreError if it cannot be opened.
    """
    wait_s = WAIT_TO_READ_S if read_only else WAIT_TO_WRITE_S
    memory = os.environ.get(MEMORY, DEFAULT_MEMORY)
    config: dict[str, str | bool | int | float | list[str]] = {"python_enable_replacements": False, "memory_limit": memory}
    if read_only:
        config |= READ_ONLY
    started, pause_s, warned = time.monotonic(), 0.01, False
    while True:
        try:
            return duckdb.connect(str(path), read_only=read_only, config=config)
        except duckdb.ParserException:
            raise StoreError(f"invalid memory limit {MEMORY}={memory}", "Set a size like 4GB or a share like 25%.") from None
        except duckdb.Error as error:
            if not any(part in str(error) for part in HELD):
                raise file_error(path, error, "open") from None
            process = re.search(r"PID (\d+)", str(error))
            holder = f"process {process[1]}" if process else "another process"
        waited = time.monotonic() - started
        if waited > wait_s:
            message = f"{path} is locked by {holder} (waited {wait_s:.0f} s)"
            raise StoreHeld(message, "Wait until that process ends, or close its connection. Then try again.")
        if waited > WARN_AFTER_S and not warned:
            logging.getLogger(__name__).warning("%s is locked by %s; waiting for up to %.0f s", path, holder, wait_s)
            warned = True
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.25)


@contextmanager
def file_errors(path: Path, action: str) -> Iterator[None]:
    """Raise StoreError for errors of DuckDB within the block that are about the file, its disk or the memory."""
    try:
        yield
    except duckdb.OutOfMemoryException:
        limit = os.environ.get(MEMORY, DEFAULT_MEMORY)
        raise StoreError(
            f"the database needs more memory than its limit of {limit}", f"Set {MEMORY} to a larger size."
        ) from None
    except duckdb.Error as error:
        # DuckDB has no exception class for a wrong checksum.
        if not isinstance(error, FILE_ERRORS) and "Corrupt database file" not in str(error):
            raise
        raise file_error(path, error, action) from None


def file_error(path: Path, error: duckdb.Error, action: str) -> StoreError:
    """The error to raise for a file that DuckDB cannot open, read or write."""
    if fault := machine_fault(error):
        return StoreError(f"cannot {action} {path}: {fault.message}", fault.hint)
    return StoreError(
        f"cannot {action} {path}: {first_line(error)}",
        f"Check the permissions and the free disk space. If both are fine, the file may be corrupt. {RESTORE}",
    )


def sql_file(name: str) -> str:
    """An SQL file of this package."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def sql_files(folder: str) -> dict[str, str]:
    """All SQL files of a folder of this package, by name."""
    paths = sorted(Path(__file__).with_name(folder).glob("*.sql"))
    return {path.stem: path.read_text(encoding="utf-8") for path in paths}


def read_every_block(db: duckdb.DuckDBPyConnection) -> None:
    """Read all values of all tables; raises duckdb.Error if a block cannot be read."""
    for (table,) in db.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal ORDER BY ALL").fetchall():
        db.execute(f'SELECT bit_xor(hash(t)) FROM "{table}" AS t').fetchall()
