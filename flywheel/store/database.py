"""The database file: opened for moments only, waited for when another process holds it, migrated.

DuckDB lets one process write, or several read. Nobody keeps a connection while a model runs, so that a
`flywheel compare` or a notebook can read in between; whoever comes second tries again for a while.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from importlib.resources import files
from io import BufferedReader
from pathlib import Path

import duckdb

from flywheel.errors import StoreError, StoreHeld
from flywheel.faults import machine_fault
from flywheel.files import copy_whole
from flywheel.store.guard import READ_ONLY

_log = logging.getLogger("flywheel")
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
MEMORY = "FLYWHEEL_DATABASE_MEMORY"
"""Environment variable: what DuckDB may take, as a size or a share. What does not fit is laid beside the database meanwhile."""
MEMORY_SHARE = "25%"
"""Of the machine's, where the variable is not set: models want the rest."""


@contextmanager
def connection(path: Path, *, read_only: bool = True, wait_s: float | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection for the length of the block; for writing, the block is one transaction.

    Raises StoreHeld where another process holds the file for longer than ``wait_s`` seconds, StoreError where it cannot be
    opened, read or written, or was written by a newer flywheel. One of an older flywheel is upgraded first.
    """
    if wait_s is None:
        wait_s = WAIT_S if read_only else WAIT_TO_WRITE_S
    if read_only and not path.exists():
        raise StoreError(f"no database at {path}; make one with `flywheel round`, or name the workspace with --workspace")
    opened = _open(path, read_only=read_only, wait_s=wait_s)
    try:
        if read_only:
            if 0 < _version(opened) < migrations()[-1][0]:
                opened.close()
                migrate(path)
                opened = _open(path, read_only=True, wait_s=wait_s)
            _refuse_other_versions(opened, path)
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
    except DAMAGE as error:
        raise _damaged(path, error, "read" if read_only else "write") from None
    except duckdb.OutOfMemoryException:
        limit = os.environ.get(MEMORY, MEMORY_SHARE)
        raise StoreError(f"the database needs more memory than the {limit} it may take; set {MEMORY} to more") from None
    finally:
        opened.close()


def _open(path: Path, *, read_only: bool, wait_s: float) -> duckdb.DuckDBPyConnection:
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
                raise _damaged(path, error, "open") from None
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


def _damaged(path: Path, error: duckdb.Error, doing: str) -> StoreError:
    """What is told of a file that DuckDB cannot read or write: the machine's fault where it is one, else its own words."""
    if fault := machine_fault(error):
        return StoreError(f"cannot {doing} {path}: {fault}")
    remedy = "mend the rights or free some space; where the file is damaged, `flywheel restore` a backup"
    return StoreError(f"cannot {doing} {path}: {first_line(error)}; {remedy}")


def migrations() -> list[tuple[int, str, str]]:
    """Number, name and SQL of every migration, in order."""
    found = []
    for file in files("flywheel.store").joinpath("migrations").iterdir():
        match = re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name)
        if match:
            found.append((int(match.group(1)), match.group(2), file.read_text(encoding="utf-8")))
    return sorted(found)


def migrate(path: Path) -> None:
    """Create the database, or upgrade it: every pending migration and its record, in one transaction.

    What is upgraded is copied first, beside it and named after its schema; a killed upgrade has changed nothing.
    Raises StoreError for a database of a newer flywheel, and where there is no space for the copy or the upgrade.
    """
    if path.exists():
        _upgrade(path)
        return
    # Made beside its place: a file that a kill or a full disk left half-made is no database, and would be in the way.
    unfinished = path.with_name(path.name + ".tmp")
    try:
        try:
            _upgrade(unfinished)
        except StoreHeld:  # by somebody who makes it right now
            raise
        except StoreError:  # what is left of one that was killed
            _remove(unfinished)
            _upgrade(unfinished)
        _put(unfinished, path)
    finally:
        _remove(unfinished)


def _remove(path: Path) -> None:
    for file in (path, path.with_name(path.name + ".wal")):
        file.unlink(missing_ok=True)


def _put(made: Path, path: Path) -> None:
    """Put a database in its place, unless somebody else has put one there meanwhile."""
    try:
        os.link(made, path)
    except (FileExistsError, FileNotFoundError):
        return
    except OSError:  # a disk that knows no links
        if not path.exists():
            made.rename(path)


def _upgrade(path: Path) -> None:
    if path.exists():
        applied = _applied(path)
        _refuse_newer(applied, path)
        if applied == migrations()[-1][0]:
            return
    # Opened before the connection and closed after it: a process that closes a file gives up all its locks on it.
    with path.open("rb") if path.exists() else nullcontext() as old, closing(_open(path, read_only=False, wait_s=WAIT_S)) as db:
        applied = _version(db)  # somebody else may have upgraded it while we waited
        _refuse_newer(applied, path)
        pending = [migration for migration in migrations() if migration[0] > applied]
        try:
            if applied and pending and old:
                db.execute("CHECKPOINT")
                copy = _keep_copy(old, path, applied)
                _log.warning(
                    "%s has schema %d and is upgraded to %d; as it was, it is kept as %s", path, applied, pending[-1][0], copy
                )
            db.begin()
            for migration in pending:
                _apply(db, *migration)
            if pending:  # the views are those of the newest tables
                db.execute(files("flywheel.store").joinpath("views.sql").read_text(encoding="utf-8"))
            db.commit()
        except (OSError, duckdb.Error) as error:
            raise StoreError(
                f"cannot upgrade {path}: {first_line(error)}; it is as it was, free some space or mend the rights, then go on"
            ) from None


def _apply(db: duckdb.DuckDBPyConnection, number: int, name: str, sql: str) -> None:
    db.execute(
        "CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY, name VARCHAR NOT NULL, "
        "applied_at TIMESTAMPTZ NOT NULL DEFAULT current_timestamp)"
    )
    db.execute("COMMENT ON TABLE migrations IS 'Schema changes applied to this database.'")
    db.execute(sql)
    db.execute("INSERT INTO migrations (version, name) VALUES (?, ?)", [number, name])


def snapshot(path: Path, to: Path) -> None:
    """Copy a database as it is at this instant; who writes to it waits meanwhile. Raises StoreError as `connection` does."""
    waiting = path.with_name(path.name + ".wal")
    # As in `migrate`: closed after the connection, which keeps writers out.
    with ExitStack() as opened:
        file = opened.enter_context(path.open("rb"))
        with closing(_open(path, read_only=True, wait_s=WAIT_S)) as db:
            _refuse_other_versions(db, path)
            copy_whole(file, to)
            if waiting.exists():  # of a process that was killed
                copy_whole(opened.enter_context(waiting.open("rb")), to.with_name(to.name + ".wal"))
    with closing(_open(to, read_only=False, wait_s=WAIT_S)) as db:
        db.execute("CHECKPOINT")


def _keep_copy(old: BufferedReader, path: Path, schema: int) -> Path:
    """Copy an open database beside itself; one that was copied before, by an upgrade that did not end, is not copied again."""
    whole = hashlib.file_digest(old, "sha256").digest()
    for number in itertools.count(1):
        copy = copy_of(path, schema, number)
        if not copy.exists():
            old.seek(0)
            copy_whole(old, copy)
            return copy
        with copy.open("rb") as before:
            if hashlib.file_digest(before, "sha256").digest() == whole:
                return copy
    raise AssertionError("numbers do not end")


def copy_of(path: Path, schema: int, number: int = 1) -> Path:
    """Where a database of an older schema is kept when it is upgraded."""
    return path.with_name(f"{path.stem}.schema-{schema}{'' if number == 1 else f'-{number}'}{path.suffix}")


def kept_copies(path: Path) -> list[Path]:
    """The databases that upgrades left beside this one."""
    return sorted(path.parent.glob(f"{path.stem}.schema-*{path.suffix}"))


def _applied(path: Path) -> int:
    opened = _open(path, read_only=True, wait_s=WAIT_S)
    try:
        return _version(opened)
    finally:
        opened.close()


def _version(db: duckdb.DuckDBPyConnection) -> int:
    try:
        row = db.execute("SELECT max(version) FROM migrations").fetchone()
    except duckdb.CatalogException:
        return 0
    return int(row[0]) if row and row[0] is not None else 0


def _refuse_newer(version: int, path: Path) -> None:
    newest = migrations()[-1][0]
    if version > newest:
        raise StoreError(
            f"{path} has schema {version}, this flywheel knows schemas up to {newest}; upgrade flywheel to read it"
        )


def _refuse_other_versions(db: duckdb.DuckDBPyConnection, path: Path) -> None:
    version = _version(db)
    _refuse_newer(version, path)
    if version == 0:
        raise StoreError(f"{path} is a DuckDB file without flywheel's tables; name the workspace with --workspace")


def first_line(error: Exception) -> str:
    """What DuckDB says in its first line, without its advice and its drawing of the statement."""
    return str(error).strip().splitlines()[0]
