"""Backups: of one instant, verified, complete or absent; a restored workspace works like the original."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flywheel.core.files import digest_file
from flywheel.core.progress import Silent
from flywheel.errors import ModelError, StoreError
from flywheel.integrity import backup
from flywheel.integrity.backup import back_up, restore
from flywheel.round.loop import run_next_round
from flywheel.store import checks, reading
from flywheel.workspace import Workspace
from tests.conftest import Cli, copy
from tests.disk import mounted, read_only
from tests.store.recorded import break_text

pytestmark = pytest.mark.slow


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(("at-work", backup.MANIFEST)) and "converted" not in path.parts
    }


def test_a_restored_workspace_equals_the_original(turned: Path, tmp_path: Path, cli: Cli) -> None:
    made = cli("-w", turned, "backup", tmp_path / "to" / "copy")
    assert made.code == 0, made.err
    assert made.out.startswith(f"{tmp_path / 'to' / 'copy'}: r0 done, r1 done, r2 done; ")
    assert made.out.strip().endswith("verified")
    # Files outside the workspace that the config names are not in the backup.
    assert len(made.err.splitlines()) >= 1
    assert os.listdir(tmp_path / "to") == ["copy"]
    restored = cli("-w", tmp_path / "new", "restore", tmp_path / "to" / "copy")
    assert restored.code == 0, restored.err
    assert files(tmp_path / "new") == files(turned)
    compared = cli("-w", tmp_path / "new", "compare", "r1", "r2", "--json")
    assert compared.out == cli("-w", turned, "compare", "r1", "r2", "--json").out


def test_a_round_is_resumed_in_a_restored_workspace_with_the_same_rows(built: Path, turned: Path, tmp_path: Path) -> None:
    folder = copy(built, tmp_path)
    command = [sys.executable, "-m", "flywheel.cli", "-w", folder, "round"]
    at_work = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        answered = "SELECT count(*) FROM candidates"
        while reading.query(folder / "flywheel.duckdb", answered).rows == [(0,)]:
            assert at_work.poll() is None
            time.sleep(0.05)
        back_up(Workspace(folder), tmp_path / "copy")
        assert at_work.poll() is None
    finally:
        at_work.kill()
        at_work.wait()
    shutil.rmtree(folder)
    again = Workspace(tmp_path / "elsewhere")
    restore(tmp_path / "copy", again)
    assert [one.status for one in again.store.rounds()] == ["done", "running"]
    assert checks.problems(again.store.path) == []
    assert run_next_round(again, again.config(), Silent()) == "r1"
    for table in ("tasks", "candidates", "scores", "selections", "evaluations"):
        sql = f"SELECT * FROM {table} WHERE round = 'r1' ORDER BY ALL"
        assert reading.query(again.store.path, sql).rows == reading.query(turned / "flywheel.duckdb", sql).rows, table
    assert checks.problems(again.store.path) == []


def test_backups_while_somebody_writes_are_each_of_one_instant(turned: Path, tmp_path: Path) -> None:
    folder = copy(turned, tmp_path)
    write = (
        "import sys, duckdb\nfrom pathlib import Path\nfrom flywheel.store.database import connection\nnumber = 0\n"
        "print('at work', flush=True)\n"
        "while True:\n    number += 1\n    with connection(Path(sys.argv[1]), read_only=False) as db:\n"
        "        for name in ('a', 'b'):\n            db.execute('INSERT INTO metrics (round, name, value) VALUES (?, ?, ?)', "
        "['r2', f'{name}{number}', number])\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", write, folder / "flywheel.duckdb"], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    seen = []
    try:
        for number in range(4):
            to = tmp_path / f"copy-{number}"
            back_up(Workspace(folder), to)
            assert checks.problems(to / "flywheel.duckdb") == []
            pairs = "SELECT count(*) FILTER (name LIKE 'a%'), count(*) FILTER (name LIKE 'b%') FROM metrics WHERE round = 'r2'"
            ((first, second),) = reading.query(to / "flywheel.duckdb", f"{pairs} AND length(name) < 8 AND name[2] <= '9'").rows
            assert first == second
            seen.append(first)
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.wait()
    assert seen == sorted(seen)
    assert seen[-1] > 0


def test_rows_that_a_killed_writer_left_in_the_log_are_in_the_backup(turned: Path, tmp_path: Path) -> None:
    folder = copy(turned, tmp_path)
    write = (
        "import duckdb, os, signal, sys; db = duckdb.connect(sys.argv[1]); "
        "db.execute(\"UPDATE rounds SET seed = 77 WHERE round = 'r2'\"); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", write, folder / "flywheel.duckdb"], check=False)
    back_up(Workspace(folder), tmp_path / "copy")
    assert reading.query(tmp_path / "copy" / "flywheel.duckdb", "SELECT seed FROM rounds WHERE round = 'r2'").rows == [(77,)]
    assert not (tmp_path / "copy" / "flywheel.duckdb.wal").exists()


def test_a_killed_backup_leaves_none_and_the_next_one_of_its_name_cleans_up(turned: Path, tmp_path: Path) -> None:
    die = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom flywheel.integrity import backup\n"
        "from flywheel.workspace import Workspace\n"
        "backup._refuse_differences = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "backup.back_up(Workspace(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    to = tmp_path / "to" / "copy"
    died = subprocess.run([sys.executable, "-c", die, turned, to], check=False)
    assert died.returncode == -signal.SIGKILL
    assert not to.exists()
    back_up(Workspace(turned), to)
    assert os.listdir(to.parent) == ["copy"]


def test_a_full_disk_leaves_nothing_and_is_reported(turned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup.shutil, "copyfile", full)
    with pytest.raises(StoreError) as error:
        back_up(Workspace(turned), tmp_path / "to" / "copy")
    assert "No space left on device" in error.value.message
    assert error.value.hint
    assert os.listdir(tmp_path / "to") == []


def test_a_file_that_was_written_wrong_makes_no_backup(turned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = backup._copy

    def broken(sources: dict[str, Path], to: Path) -> None:
        written(sources, to)
        (to / "config.yaml").write_text("seed: 1")

    monkeypatch.setattr(backup, "_copy", broken)
    with pytest.raises(StoreError) as error:
        back_up(Workspace(turned), tmp_path / "copy")
    assert "config.yaml" in error.value.message
    assert os.listdir(tmp_path) == []


def test_a_changed_model_is_not_backed_up(turned: Path, tmp_path: Path) -> None:
    folder = copy(turned, tmp_path)
    weights = folder / "models" / "generator-r1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\1\2\3\4")
    with pytest.raises(ModelError) as error:
        back_up(Workspace(folder), tmp_path / "copy")
    assert "generator-r1-" in error.value.message
    assert os.listdir(tmp_path) == ["workspace"]


def test_a_missing_model_is_reported_and_the_rest_is_backed_up(turned: Path, tmp_path: Path, cli: Cli) -> None:
    folder = copy(turned, tmp_path)
    shutil.rmtree(folder / "models" / "generator-r1")
    copied = cli("-w", folder, "backup", tmp_path / "copy", "--json")
    assert copied.code == 0
    assert [model.rpartition("-")[0] for model in json.loads(copied.out)["missing"]] == ["generator-r1"]
    assert "generator-r1-" in copied.err
    assert cli("-w", tmp_path / "new", "restore", tmp_path / "copy").code == 0
    assert files(tmp_path / "new") == files(tmp_path / "copy")


def test_a_backup_of_a_broken_database_is_not_restored(turned: Path, tmp_path: Path, cli: Cli) -> None:
    to = tmp_path / "copy"
    back_up(Workspace(turned), to)
    break_text(to / backup.DATABASE)
    manifest = json.loads((to / backup.MANIFEST).read_text())
    manifest["files"][backup.DATABASE] = digest_file(to / backup.DATABASE)
    (to / backup.MANIFEST).write_text(json.dumps(manifest))
    outcome = cli("-w", tmp_path / "new", "restore", to)
    assert (outcome.code, "Corrupt" in outcome.error) == (1, True), outcome.err
    assert os.listdir(tmp_path) == ["copy"]


def test_other_files_beside_a_backup_are_left_alone(turned: Path, tmp_path: Path, cli: Cli) -> None:
    for name in ("copy.tmp", "new.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    made = cli("-w", turned, "backup", tmp_path / "copy")
    assert (made.code, "generator-r" in made.err) == (0, False), made.err
    assert cli("-w", tmp_path / "new", "restore", tmp_path / "copy").code == 0
    assert all((tmp_path / name / "mine").exists() for name in ("copy.tmp", "new.tmp"))
    refused = cli("-w", turned, "backup", tmp_path / "copy" / "config.yaml" / "x")
    assert (refused.code, bool(refused.error)) == (1, True), refused.err


def test_a_restore_to_a_read_only_disk_is_one_error(turned: Path, tmp_path: Path, cli: Cli) -> None:
    back_up(Workspace(turned), tmp_path / "copy")
    with mounted(tmp_path / "disk", megabytes=8) as disk, read_only(disk):
        outcome = cli("-w", disk / "wheel", "restore", tmp_path / "copy")
    assert (outcome.code, "Read-only file system" in outcome.error, bool(outcome.hint)) == (1, True, True), outcome.err


def test_files_in_the_workspace_that_the_config_names_are_in_the_backup(turned: Path, tmp_path: Path) -> None:
    folder = copy(turned, tmp_path)
    (folder / "mine").mkdir()
    (folder / "mine" / "seeds.jsonl").write_text("{}")
    (folder / "notes.txt").write_text("not part of the workspace")
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(
        config.replace("seeds: asset:data/nano/seeds.jsonl", f"seeds: {folder}/mine/seeds.jsonl")
    )
    back_up(Workspace(folder), tmp_path / "copy")
    assert (tmp_path / "copy" / "mine" / "seeds.jsonl").exists()
    assert not (tmp_path / "copy" / "notes.txt").exists()


def test_an_existing_place_and_one_in_the_workspace_are_refused(turned: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "copy").mkdir()
    for to in (tmp_path / "copy", turned / "models" / "copy"):
        outcome = cli("-w", turned, "backup", to)
        assert (outcome.code, str(to) in outcome.error, bool(outcome.hint)) == (1, True, True)
    missing = cli("-w", tmp_path / "none", "backup", tmp_path / "other")
    assert str(tmp_path / "none") in missing.error
    assert os.listdir(tmp_path) == ["copy"]


def test_nothing_is_restored_over_a_workspace(turned: Path, tmp_path: Path, cli: Cli) -> None:
    back_up(Workspace(turned), tmp_path / "copy")
    place = tmp_path / "workspace"
    place.mkdir()
    (place / "mine.txt").write_text("mine")
    refused = cli("-w", place, "restore", tmp_path / "copy")
    assert (refused.code, str(place) in refused.error, bool(refused.hint)) == (1, True, True)
    assert files(place) == {"mine.txt": b"mine"}
    (place / "mine.txt").unlink()
    assert cli("-w", place, "restore", tmp_path / "copy", "--json").code == 0
    assert files(place) == files(tmp_path / "copy")


def refused(source: Path, place: Workspace) -> str:
    """The message of the error of a restore, which has a hint."""
    with pytest.raises(StoreError) as error:
        restore(source, place)
    assert error.value.hint
    return error.value.message


def test_a_broken_backup_is_refused_and_leaves_nothing(turned: Path, tmp_path: Path) -> None:
    to, place = tmp_path / "copy", Workspace(tmp_path / "new")
    back_up(Workspace(turned), to)
    weights = to / "models" / "generator-r1" / "model.safetensors"
    complete = weights.read_bytes()
    weights.write_bytes(complete[:-4] + b"\1\2\3\4")
    assert "models/generator-r1/model.safetensors" in refused(to, place)
    weights.unlink()
    assert "models/generator-r1/model.safetensors" in refused(to, place)
    weights.write_bytes(complete)
    manifest = json.loads((to / backup.MANIFEST).read_text())
    for change, part in (
        ({"files": manifest["files"] | {"../evil": ""}}, "../evil"),
        ({"files": manifest["files"] | {"/evil": ""}}, "/evil"),
        ({"files": 3}, backup.MANIFEST),
        ({"files": []}, backup.MANIFEST),
        ({"files": manifest["files"] | {"config.yaml": 5}}, backup.MANIFEST),
        ({"rounds": 5}, backup.MANIFEST),
        ({"files": {}}, backup.DATABASE),
    ):
        (to / backup.MANIFEST).write_text(json.dumps(manifest | change))
        assert part in refused(to, place)
    (to / backup.MANIFEST).write_text("[]")
    assert backup.MANIFEST in refused(to, place)
    (to / backup.MANIFEST).unlink()
    assert backup.MANIFEST in refused(to, place)
    assert "nowhere" in refused(tmp_path / "nowhere", place)
    assert sorted(os.listdir(tmp_path)) == ["copy"]
