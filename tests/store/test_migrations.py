"""Databases of every earlier schema, made by the code of their time: upgraded whole, copied first, safe to kill."""

from __future__ import annotations

import lzma
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from flywheel.errors import StoreError
from flywheel.store import checking, migrating
from flywheel.store.store import Store
from tests.conftest import Cli

SCHEMAS = Path(__file__).parent / "schemas"
NEWEST = migrating.migrations()[-1][0]
OLD = range(1, NEWEST)
Rows = dict[str, tuple[list[str], list[tuple[Any, ...]]]]


def unpacked(schema: int, folder: Path) -> Path:
    path = folder / "flywheel.duckdb"
    path.write_bytes(lzma.decompress((SCHEMAS / f"schema-{schema}.duckdb.xz").read_bytes()))
    return path


def rows(path: Path, columns: Rows | None = None) -> Rows:
    """Every row of every table, by its columns; or what is now in the tables and columns that another database had."""
    found: Rows = {}
    with duckdb.connect(str(path), read_only=True) as db:
        tables = [name for (name,) in db.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal").fetchall()]
        for table in columns or tables:
            names = (
                columns[table][0]
                if columns
                else [one[0] for one in db.execute(f"SELECT * FROM {table} LIMIT 0").description or ()]
            )
            found[table] = (names, db.execute(f"SELECT {', '.join(names)} FROM {table} ORDER BY ALL").fetchall())
    return found


def test_there_is_a_database_of_every_schema_but_the_newest() -> None:
    assert sorted(path.name for path in SCHEMAS.glob("*.xz")) == [f"schema-{number}.duckdb.xz" for number in OLD]


@pytest.mark.parametrize("schema", OLD)
def test_an_old_database_is_upgraded_with_every_row_and_kept_as_it_was(schema: int, tmp_path: Path, cli: Cli) -> None:
    path = unpacked(schema, tmp_path)
    before, bytes_before = rows(path), path.read_bytes()
    assert all(
        before[table][1] for table in ("rounds", "tasks", "candidates", "scores", "selections", "evaluations", "verdicts")
    )
    outcome = cli("-w", tmp_path, "rounds")
    assert outcome.code == 0
    assert "r2" in outcome.out
    copy = tmp_path / f"flywheel.schema-{schema}.duckdb"
    assert outcome.err.splitlines() == [
        f"{path} has schema {schema} and is upgraded to {NEWEST}; as it was, it is kept as {copy}"
    ]
    assert copy.read_bytes() == bytes_before
    after = rows(path, before)
    new = [number for number, _, _ in migrating.migrations() if number > schema]
    assert [row[0] for row in after["migrations"][1]][schema:] == new
    after["migrations"] = (after["migrations"][0], after["migrations"][1][:schema])
    assert after == before
    assert list(checking.faults(path)) == []
    # Once is enough.
    assert cli("-w", tmp_path, "rounds").err == ""


@pytest.mark.parametrize("schema", [1, 3])
def test_the_rounds_of_an_old_schema_are_read_by_every_command_that_reads(schema: int, tmp_path: Path, cli: Cli) -> None:
    unpacked(schema, tmp_path)
    compared = cli("-w", tmp_path, "compare", "r1", "r2")
    assert (compared.code, compared.out.split(":")[0]) == (0, "r2 against r1")
    told = cli("-w", tmp_path, "sql", "SELECT round, count(*) FROM candidates GROUP BY ALL ORDER BY ALL", "--format", "csv")
    assert told.out.splitlines()[1:] == ["r1,30", "r2,30"]
    exported = cli("-w", tmp_path, "export", "r2", "--to", tmp_path / "out", "--format", "jsonl")
    assert exported.code == 0, exported.err
    assert len((tmp_path / "out" / "train.jsonl").read_text().splitlines()) == 10
    for command in (("show", "r1"), ("trend",), ("report", "--out", tmp_path / "report.html"), ("schema",)):
        outcome = cli("-w", tmp_path, *command)
        assert outcome.code == 0, outcome.err


DIE = """
import os, signal, sys
from pathlib import Path
from flywheel.store import migrating

apply, count = migrating._apply, 0

def apply_and_die(db, number, name, sql):
    global count
    if number == int(sys.argv[2]):
        db.execute(sql.split(";")[0])
        os.kill(os.getpid(), signal.SIGKILL)
    apply(db, number, name, sql)

migrating._apply = apply_and_die
migrating.migrate(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("number", [2, NEWEST])
def test_a_killed_upgrade_has_changed_nothing_and_the_next_start_does_it(number: int, tmp_path: Path) -> None:
    path = unpacked(1, tmp_path)
    before, bytes_before = rows(path), path.read_bytes()
    died = subprocess.run([sys.executable, "-c", DIE, path, str(number)], check=False)
    assert died.returncode == -signal.SIGKILL
    assert rows(path) == before
    Store(path).migrate()
    assert [row[0] for row in rows(path)["migrations"][1]] == [*range(1, NEWEST + 1)]
    assert list(checking.faults(path)) == []
    # The first try left the same copy: there is one.
    assert [one.read_bytes() for one in tmp_path.glob("flywheel.schema-1*")] == [bytes_before]


def test_another_database_of_the_same_schema_gets_a_copy_of_its_own(tmp_path: Path) -> None:
    path = unpacked(1, tmp_path)
    Store(path).migrate()
    unpacked(1, tmp_path)
    with duckdb.connect(str(path)) as db:
        db.execute("DELETE FROM verdicts")
    Store(path).migrate()
    assert [one.name for one in migrating.kept_copies(path)] == ["flywheel.schema-1-2.duckdb", "flywheel.schema-1.duckdb"]
    assert rows(tmp_path / "flywheel.schema-1-2.duckdb")["verdicts"][1] == []


def test_several_processes_that_find_an_old_database_upgrade_it_once(tmp_path: Path) -> None:
    path = unpacked(1, tmp_path)
    command = [sys.executable, "-m", "flywheel.cli", "-w", str(tmp_path), "rounds"]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [reader.communicate() for reader in readers]
    assert [reader.returncode for reader in readers] == [0, 0, 0], said
    assert sum("is upgraded to" in err for _, err in said) == 1
    assert len({out for out, _ in said}) == 1
    assert len(migrating.kept_copies(path)) == 1


def test_rows_that_a_killed_writer_left_in_the_log_are_upgraded_too(tmp_path: Path) -> None:
    path = unpacked(1, tmp_path)
    write = (
        "import duckdb, os, signal, sys; db = duckdb.connect(sys.argv[1]); "
        "db.execute(\"UPDATE rounds SET status = 'failed' WHERE round = 'r2'\"); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", write, path], check=False)
    assert path.with_name("flywheel.duckdb.wal").exists()
    Store(path).migrate()
    for one in (path, tmp_path / "flywheel.schema-1.duckdb"):
        assert [row[3] for row in rows(one)["rounds"][1]] == ["done", "done", "failed"]


def test_no_room_for_the_copy_is_told_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = unpacked(2, tmp_path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(migrating, "copy_whole", full)
    with pytest.raises(StoreError, match=r"cannot upgrade .* No space left on device; it is as it was") as error:
        Store(path).migrate()
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["flywheel.duckdb"]


def test_a_newer_database_is_refused_in_one_line_by_every_command(tmp_path: Path, cli: Cli) -> None:
    store = Store(tmp_path / "flywheel.duckdb")
    store.migrate()
    with duckdb.connect(str(store.path)) as db:
        db.execute("INSERT INTO migrations (version, name) VALUES (9999, 'future')")
    (tmp_path / "config.yaml").write_text("")
    for command in (("rounds",), ("sql", "SELECT 1"), ("prune",), ("backup", tmp_path.with_name("copy"))):
        outcome = cli("-w", tmp_path, *command)
        assert (outcome.code, outcome.err.splitlines()) == (
            1,
            [f"error: {store.path} has schema 9999, this flywheel knows schemas up to {NEWEST}; upgrade flywheel to read it"],
        )
    with duckdb.connect(str(store.path), read_only=True) as db:
        assert db.execute("SELECT max(version) FROM migrations").fetchone() == (9999,)
