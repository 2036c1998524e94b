"""The schema of a database: created once, upgraded in one transaction, safe to kill; a newer one is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from flywheel.errors import StoreError
from flywheel.records import Model, ModelKind
from flywheel.store import migrating, reading
from flywheel.store.store import Store
from tests.conftest import Cli

FIRST = migrating.migrations()
SECOND = (2, "colors", "ALTER TABLE models ADD COLUMN color VARCHAR; COMMENT ON COLUMN models.color IS 'Color.';")
MODEL = Model(kind=ModelKind.MEMBER, name="pairs", path="models/pairs", digest="0" * 64)


@pytest.fixture
def old(tmp_path: Path) -> Store:
    """A database of the first schema, with a row."""
    store = Store(tmp_path / "flywheel.duckdb")
    store.migrate()
    store.record_model(MODEL)
    return store


@pytest.fixture
def second(old: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer flywheel with a second migration; the database is of the first one."""
    monkeypatch.setattr(migrating, "migrations", lambda: [*FIRST, SECOND])
    monkeypatch.setattr("flywheel.store.database.migrations", migrating.migrations)


def versions(path: Path) -> list[tuple[int, str]]:
    with duckdb.connect(str(path), read_only=True) as db:
        return db.execute("SELECT version, name FROM migrations ORDER BY version").fetchall()


def test_there_is_one_schema_and_migrating_twice_changes_nothing(old: Store) -> None:
    before = old.path.read_bytes()
    old.migrate()
    assert old.path.read_bytes() == before
    assert versions(old.path) == [(1, "tables")]
    assert os.listdir(old.path.parent) == ["flywheel.duckdb"]


@pytest.mark.usefixtures("second")
def test_the_first_command_that_reads_an_older_database_upgrades_it_and_keeps_its_rows(old: Store, cli: Cli) -> None:
    outcome = cli("-w", old.path.parent, "sql", "SELECT name, color FROM models", "--format", "csv")
    assert (outcome.code, outcome.out.splitlines()) == (0, ["name,color", "pairs,"])
    assert len(outcome.err.splitlines()) == 1
    assert versions(old.path) == [(1, "tables"), (2, "colors")]
    assert old.models() == [MODEL]
    # The second command has nothing to do.
    assert cli("-w", old.path.parent, "rounds").err == ""


DIE = """
import os, signal, sys
from pathlib import Path
from flywheel.store import migrating
from tests.store.test_migrations import FIRST, SECOND

third = (3, "never", "")
migrating.migrations = lambda: [*FIRST, SECOND, third]
apply = migrating.apply

def apply_and_die(db, pending):
    apply(db, pending[:-1])
    os.kill(os.getpid(), signal.SIGKILL)

migrating.apply = apply_and_die
migrating.migrate(Path(sys.argv[1]))
"""


@pytest.mark.usefixtures("second")
def test_a_killed_upgrade_changes_nothing_and_the_next_command_repeats_it(old: Store) -> None:
    killed = subprocess.run([sys.executable, "-c", DIE, old.path], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert versions(old.path) == [(1, "tables")]
    assert old.models() == [MODEL]
    assert versions(old.path) == [(1, "tables"), (2, "colors")]


@pytest.mark.usefixtures("second")
def test_a_migration_that_fails_leaves_the_database_unchanged(old: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        migrating, "migrations", lambda: [*FIRST, SECOND, (3, "broken", "ALTER TABLE nothing ADD COLUMN x INT")]
    )
    with pytest.raises(StoreError) as error:
        old.migrate()
    assert str(old.path) in error.value.message
    assert error.value.hint
    assert versions(old.path) == [(1, "tables")]


@pytest.mark.usefixtures("second")
def test_rows_in_the_log_of_a_killed_writer_are_upgraded_too(old: Store) -> None:
    write = (
        "import duckdb, os, signal, sys; db = duckdb.connect(sys.argv[1]); "
        "db.execute(\"UPDATE models SET path = 'elsewhere'\"); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", write, old.path], check=False)
    assert old.path.with_name("flywheel.duckdb.wal").exists()
    old.migrate()
    assert [model.path for model in old.models()] == ["elsewhere"]


def test_several_processes_create_a_database_once(tmp_path: Path) -> None:
    create = "import sys; from pathlib import Path; from flywheel.store.migrating import migrate; migrate(Path(sys.argv[1]))"
    path = tmp_path / "flywheel.duckdb"
    processes = [subprocess.Popen([sys.executable, "-c", create, path]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0, 0, 0, 0]
    assert versions(path) == [(1, "tables")]
    assert os.listdir(tmp_path) == ["flywheel.duckdb"]


def test_half_a_database_of_a_killed_process_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "flywheel.duckdb.tmp").write_bytes(b"half a database")
    store = Store(tmp_path / "flywheel.duckdb")
    store.migrate()
    assert store.is_empty
    assert os.listdir(tmp_path) == ["flywheel.duckdb"]


def test_a_newer_database_is_refused_by_every_command_and_unchanged(old: Store, cli: Cli) -> None:
    with duckdb.connect(str(old.path)) as db:
        db.execute("INSERT INTO migrations (version, name) VALUES (9999, 'future')")
    folder = old.path.parent
    (folder / "config.yaml").write_text("")
    for command in (("rounds",), ("sql", "SELECT 1"), ("prune",), ("backup", folder.with_name("copy"))):
        outcome = cli("-w", folder, *command)
        assert (outcome.code, "9999" in outcome.error, outcome.hint) == (1, True, "Upgrade flywheel.")
    assert versions(old.path)[-1] == (9999, "future")


def test_a_changed_schema_is_reported_by_the_statement_that_fails(old: Store) -> None:
    with duckdb.connect(str(old.path)) as db:
        db.execute("ALTER TABLE models DROP COLUMN facts")
    with pytest.raises(StoreError) as error:
        old.models()
    assert "models.facts" in error.value.message
    with pytest.raises(StoreError) as error:
        reading.query(old.path, "SELECT facts FROM models")
    assert "models.facts" in error.value.message
