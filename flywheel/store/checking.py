"""A database examined: whether it can be read, has the tables it should have, and rows that fit together.

The checks run in one connection: a round that is at work waits for the moment that takes, so the rows are those of one instant.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from flywheel.errors import StoreError, first_line
from flywheel.store.database import connection
from flywheel.store.lacking import lacking
from flywheel.store.opening import read_every_block
from flywheel.store.rules import BACKUP, CHECKS

DATABASE = "database"
"""The check that every block can be read; where one cannot, no other check is made."""
SCHEMA = "schema"
"""The check that every table, column and view is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What was found against a rule, and what to do."""

    check: str
    found: str
    remedy: str


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Raise StoreError for whatever DuckDB raises in the block: of a file in any state there is one line to tell."""
    try:
        yield
    except duckdb.Error as error:
        raise StoreError(f"{path} cannot be read: {first_line(error)}; {BACKUP}") from None


def faults(path: Path) -> list[Fault]:
    """Every fault of a database, check by check; first of all, whether each of its blocks can be read.

    Raises StoreError where it cannot be opened.
    """
    with told(path), connection(path) as db:
        try:
            read_every_block(db)
            missing = [Fault(check=SCHEMA, found=line, remedy=BACKUP) for line in lacking(db)]
            return [*missing, *dict.fromkeys(_row_faults(db, whole=not missing))]
        except (duckdb.ProgrammingError, duckdb.OutOfMemoryException):
            raise  # a mistake in a check, or the machine's fault
        except duckdb.Error as error:
            return [Fault(check=DATABASE, found=f"cannot be read: {first_line(error)}", remedy=BACKUP)]


def _row_faults(db: duckdb.DuckDBPyConnection, *, whole: bool) -> Iterator[Fault]:
    """``whole`` is whether the schema is what it should be; where it is not, some checks cannot be made."""
    for check in CHECKS:
        try:
            for (line,) in db.execute(check.sql).fetchall():
                yield Fault(check=check.name, found=line, remedy=check.remedy)
        except duckdb.ProgrammingError:
            if whole:
                raise
            yield Fault(check=check.name, found="not looked at: the schema is not what it should be", remedy=BACKUP)


def best_round(path: Path) -> str | None:
    """The round whose generator the judge likes best."""
    with connection(path) as db:
        row = db.execute("SELECT round FROM best_round").fetchone()
    return str(row[0]) if row else None
