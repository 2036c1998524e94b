"""The schema of a database: created, upgraded from an older flywheel, or refused.

A migration is a file ``migrations/NNNN_name.sql``. All pending ones and their records are one transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import duckdb

from flywheel.core.files import remove
from flywheel.errors import StoreError, StoreHeld, first_line
from flywheel.store.opening import RESTORE, file_errors, open_file, sql_file, sql_files

_log = logging.getLogger("flywheel")


def migrations() -> list[tuple[int, str, str]]:
    """All migrations in order: number, name and SQL."""
    return [(int(file[:4]), file[5:], sql) for file, sql in sql_files("migrations").items()]


def migrate(path: Path) -> None:
    """Create a database, or upgrade it; a killed or failed upgrade changes nothing.

    Raises StoreError if the database is of a newer flywheel or cannot be written.
    """
    if path.exists():
        with file_errors(path, "read"), closing(open_file(path, read_only=True)) as db:
            refuse_newer(db, path)
            if schema_version(db) == migrations()[-1][0]:
                return
        _upgrade(path)
        return
    # Created beside its place, so that a killed process never leaves half a database there.
    unfinished, log = path.with_name(path.name + ".tmp"), path.with_name(path.name + ".tmp.wal")
    try:
        _upgrade(unfinished, path)
    except StoreHeld:  # another process is creating it
        raise
    except StoreError:  # a killed process left it
        remove(unfinished, log)
        _upgrade(unfinished, path)
    finally:
        remove(unfinished, log)


def _upgrade(file: Path, path: Path | None = None) -> None:
    """Apply the pending migrations to a file, which then becomes the database ``path`` if there is none yet."""
    with closing(open_file(file, read_only=False)) as db:
        refuse_newer(db, file)
        version = schema_version(db)
        pending = [migration for migration in migrations() if migration[0] > version]
        if version and pending:
            _log.warning("Upgrading %s from schema %d to %d", file, version, pending[-1][0])
        try:
            db.begin()
            apply(db, pending)
            db.commit()
            if path and not path.exists():  # while the connection keeps other processes out
                db.execute("CHECKPOINT")
                file.rename(path)
        except (OSError, duckdb.Error) as error:
            hint = "Check the permissions and the free disk space, then run the command again."
            action = f"create {path}" if path else f"upgrade {file}"
            raise StoreError(f"cannot {action}: {first_line(error)} (nothing has changed)", hint) from None


def apply(db: duckdb.DuckDBPyConnection, pending: Sequence[tuple[int, str, str]]) -> None:
    """Run migrations and record each of them, then create the views."""
    if not pending:
        return
    db.execute(sql_file("migrations.sql"))
    for number, name, sql in pending:
        db.execute(sql)
        db.execute("INSERT INTO migrations (version, name) VALUES (?, ?)", [number, name])
    db.execute(sql_file("views.sql"))


def schema_version(db: duckdb.DuckDBPyConnection) -> int:
    """The number of the last applied migration; 0 if the database has none."""
    try:
        ((version,),) = db.execute("SELECT coalesce(max(version), 0) FROM migrations").fetchall()
    except duckdb.CatalogException:
        return 0
    return int(version)


def refuse_newer(db: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Raise StoreError for a database of a newer flywheel."""
    version, newest = schema_version(db), migrations()[-1][0]
    if version > newest:
        raise StoreError(f"{path} has schema {version}; this flywheel supports schemas up to {newest}", "Upgrade flywheel.")


def refuse_incomplete(db: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Raise StoreError if a part of the schema is missing. Additional tables, columns and views are allowed."""
    if missing := missing_parts(db):
        raise StoreError(f"the schema of {path} was changed: {', '.join(missing)}", RESTORE)


def missing_parts(db: duckdb.DuckDBPyConnection) -> list[str]:
    """One line for each table or view, and for each column with its type, that is missing."""
    columns = "SELECT table_name, column_name || ' ' || data_type FROM duckdb_columns() WHERE NOT internal ORDER BY ALL"
    with duckdb.connect(":memory:") as fresh:
        apply(fresh, migrations())
        expected = fresh.execute(columns).fetchall()
    actual = db.execute(columns).fetchall()
    tables = {table for table, _ in actual}
    missing = [(table, column) for table, column in expected if (table, column) not in actual]
    names = (f"{table}.{column}" if table in tables else table for table, column in missing)
    return [f"{name} is missing" for name in dict.fromkeys(names)]
