"""A DuckDB file opened: waited for when another process holds it, its own faults told in words."""

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
from flywheel.store.guard import READ_ONLY

WAIT_S = 60.0
"""How long to wait for a file that another process holds, to read it."""
WAIT_TO_WRITE_S = 300.0
"""And to write it: what waits may be hours of work."""
TELL_AFTER_S = 5.0
"""Who waits for longer says so."""
DAMAGE = (
    duckdb.IOException,
    duckdb.FatalException,
    duckdb.InternalException,
    duckdb.SerializationException,
    duckdb.TransactionException,
)
"""What DuckDB raises where the file or its disk is at fault, the last for a commit, and not what was asked."""
CORRUPT = "Corrupt database file"
"""So begins what it says of a block whose checksum is wrong; that error is of no class of its own."""
MEMORY = "FLYWHEEL_DATABASE_MEMORY"
"""Environment variable: what DuckDB may take, as a size or a share. What does not fit is laid beside the database meanwhile."""
MEMORY_SHARE = "25%"
"""Of the machine's, where the variable is not set: models want the rest."""


def open_file(path: Path, *, read_only: bool, wait_s: float) -> duckdb.DuckDBPyConnection:
    """Open a database, whatever its schema; raises StoreError where it cannot be, StoreHeld after ``wait_s`` seconds."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "python_enable_replacements": False,
        "memory_limit": os.environ.get(MEMORY, MEMORY_SHARE),
    }
    if read_only:
        config |= READ_ONLY
    started, pause_s, told = time.monotonic(), 0.01, False
    while True:
        try:
            return duckdb.connect(str(path), read_only=read_only, config=config)
        except duckdb.ParserException:
            raise StoreError(f"{MEMORY} is {os.environ.get(MEMORY)!r}; set it to a size like 4GB or a share like 25%") from None
        except duckdb.Error as error:
            text = str(error)
            # By another process, or by another thread of this one that reads while we write.
            held = any(sign in text for sign in ("lock on file", "different configuration", "already attached"))
            if not held:
                raise damaged(path, error, "open") from None
            holder = re.search(r"PID (\d+)", text)
            who = f"process {holder.group(1)}" if holder else "another process"
            waited = time.monotonic() - started
            if waited > wait_s:
                raise StoreHeld(
                    f"{path} is held by {who} for more than {wait_s:.0f} s; close its connection, then go on"
                ) from None
            if waited > TELL_AFTER_S and not told:
                logging.getLogger(__name__).warning("%s is held by %s; waiting for up to %.0f s", path, who, wait_s)
                told = True
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.25)


@contextmanager
def telling_faults(path: Path, doing: str) -> Iterator[None]:
    """Raise StoreError for what DuckDB says within the block where the file, its disk or the memory is at fault."""
    try:
        yield
    except duckdb.OutOfMemoryException:
        limit = os.environ.get(MEMORY, MEMORY_SHARE)
        raise StoreError(f"the database needs more memory than the {limit} it may take; set {MEMORY} to more") from None
    except duckdb.Error as error:
        if not of_the_file(error):
            raise
        raise damaged(path, error, doing) from None


def of_the_file(error: duckdb.Error) -> bool:
    """Whether the file or its disk is at fault, and not what was asked."""
    return isinstance(error, DAMAGE) or CORRUPT in str(error)


def read_every_block(db: duckdb.DuckDBPyConnection) -> None:
    """Read all there is of every table; raises duckdb.Error where a block cannot be read."""
    for (table,) in db.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal ORDER BY ALL").fetchall():
        db.execute(f'SELECT bit_xor(hash(t)) FROM "{table}" AS t').fetchall()


def damaged(path: Path, error: duckdb.Error, doing: str) -> StoreError:
    """What is told of a file that DuckDB cannot read or write: the machine's fault where it is one, else its own words."""
    if fault := machine_fault(error):
        return StoreError(f"cannot {doing} {path}: {fault.message}", fault.hint)
    remedy = "mend the rights or free some space; where the file is damaged, `flywheel restore` a backup"
    return StoreError(f"cannot {doing} {path}: {first_line(error)}; {remedy}")
