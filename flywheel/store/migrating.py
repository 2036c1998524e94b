"""The schema of a database: made, brought up to date, or refused."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import re
from collections.abc import Sequence
from contextlib import closing, nullcontext
from importlib.resources import files
from io import BufferedReader
from pathlib import Path

import duckdb

from flywheel.core.files import copy_whole
from flywheel.errors import StoreError, StoreHeld, first_line
from flywheel.store.opening import WAIT_S, damaged, open_file, read_every_block, telling_faults

_log = logging.getLogger("flywheel")


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
    Raises StoreError for a database of a newer flywheel or with a block that cannot be read, which is left as it is, and where
    there is no space for the copy or the upgrade.
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
        refuse_newer(applied, path)
        if applied == migrations()[-1][0]:
            return
    # Opened before the connection and closed after it: a process that closes a file gives up all its locks on it.
    with (
        path.open("rb") if path.exists() else nullcontext() as old,
        closing(open_file(path, read_only=False, wait_s=WAIT_S)) as db,
    ):
        applied = schema_of(db)  # somebody else may have upgraded it while we waited
        refuse_newer(applied, path)
        pending = [migration for migration in migrations() if migration[0] > applied]
        try:
            if applied and pending and old:
                db.execute("CHECKPOINT")
                copy = _keep_copy(old, path, applied)
                _log.warning(
                    "%s has schema %d and is upgraded to %d; as it was, it is kept as %s", path, applied, pending[-1][0], copy
                )
            db.begin()
            apply(db, pending)
            db.commit()
        except (OSError, duckdb.Error) as error:
            raise StoreError(
                f"cannot upgrade {path}: {first_line(error)}; it is as it was, free some space or mend the rights, then go on"
            ) from None


def apply(db: duckdb.DuckDBPyConnection, pending: Sequence[tuple[int, str, str]]) -> None:
    """Run these migrations, each with its record, and make the views of the newest tables."""
    for migration in pending:
        _apply(db, *migration)
    if pending:
        db.execute(files("flywheel.store").joinpath("views.sql").read_text(encoding="utf-8"))


def _apply(db: duckdb.DuckDBPyConnection, number: int, name: str, sql: str) -> None:
    db.execute(
        "CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY, name VARCHAR NOT NULL, "
        "applied_at TIMESTAMPTZ NOT NULL DEFAULT current_timestamp)"
    )
    db.execute("COMMENT ON TABLE migrations IS 'Schema changes applied to this database.'")
    db.execute(sql)
    db.execute("INSERT INTO migrations (version, name) VALUES (?, ?)", [number, name])


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
    """The schema of a database; raises StoreError for an older one that cannot be read whole."""
    with telling_faults(path, "read"), closing(open_file(path, read_only=True, wait_s=WAIT_S)) as db:
        applied = schema_of(db)
        if 0 < applied < migrations()[-1][0]:
            try:
                read_every_block(db)
            except duckdb.Error as error:
                raise damaged(path, error, "upgrade") from None
        return applied


def schema_of(db: duckdb.DuckDBPyConnection) -> int:
    try:
        row = db.execute("SELECT max(version) FROM migrations").fetchone()
    except duckdb.CatalogException:
        return 0
    return int(row[0]) if row and row[0] is not None else 0


def refuse_newer(version: int, path: Path) -> None:
    newest = migrations()[-1][0]
    if version > newest:
        raise StoreError(
            f"{path} has schema {version}, this flywheel knows schemas up to {newest}; upgrade flywheel to read it"
        )


def refuse_other_schemas(db: duckdb.DuckDBPyConnection, path: Path) -> None:
    version = schema_of(db)
    refuse_newer(version, path)
    if version == 0:
        raise StoreError(f"{path} is a DuckDB file without flywheel's tables; name the workspace with --workspace")
