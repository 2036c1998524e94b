"""Backups: of one instant, verified, whole or absent; what is restored goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import duckdb
import pytest

from flywheel.core.files import digest_file
from flywheel.core.progress import Silent
from flywheel.errors import StoreError
from flywheel.integrity import backup
from flywheel.integrity.backup import back_up, restore
from flywheel.round.loop import run_next_round
from flywheel.store import checking, reading
from flywheel.workspace import Workspace
from tests.conftest import Cli, copy
from tests.disk import mounted, read_only


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(("at-work", backup.MANIFEST)) and "converted" not in path.parts
    }


@pytest.mark.parametrize("name", ["copy", "copy.tar"])
def test_a_backup_is_restored_as_it_was(name: str, turned: Path, tmp_path: Path, cli: Cli) -> None:
    made = cli("-w", turned, "backup", tmp_path / "to" / name)
    assert made.code == 0, made.err
    assert made.out.startswith(f"{tmp_path / 'to' / name}: r0 done, r1 done, r2 done; ")
    assert made.out.strip().endswith("verified")
    # Data that the config names elsewhere are not the workspace's.
    assert "not in it, because it lies outside the workspace" in made.err
    assert os.listdir(tmp_path / "to") == [name]
    restored = cli("-w", tmp_path / "new", "restore", tmp_path / "to" / name)
    assert restored.code == 0, restored.err
    assert files(tmp_path / "new") == files(turned)
    compared = cli("-w", tmp_path / "new", "compare", "r1", "r2", "--json")
    assert compared.out == cli("-w", turned, "compare", "r1", "r2", "--json").out


def test_a_round_goes_on_in_a_restored_workspace_as_if_nothing_had_happened(built: Path, turned: Path, tmp_path: Path) -> None:
    folder = copy(built, tmp_path)
    command = [sys.executable, "-m", "flywheel.cli", "-w", folder, "round"]
    at_work = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        answered = "SELECT count(*) FROM candidates"
        while reading.query(folder / "flywheel.duckdb", answered).rows == [(0,)]:
            assert at_work.poll() is None
            time.sleep(0.05)
        back_up(Workspace(folder), tmp_path / "copy.tar")
        assert at_work.poll() is None
    finally:
        at_work.kill()
        at_work.wait()
    shutil.rmtree(folder)
    again = Workspace(tmp_path / "elsewhere")
    restore(tmp_path / "copy.tar", again)
    assert [one.status for one in again.store.rounds()] == ["done", "running"]
    assert list(checking.faults(again.store.path)) == []
    assert run_next_round(again, again.config(), Silent()) == "r1"
    for table in ("tasks", "candidates", "scores", "selections", "evaluations"):
        sql = f"SELECT * FROM {table} WHERE round = 'r1' ORDER BY ALL"
        assert reading.query(again.store.path, sql).rows == reading.query(turned / "flywheel.duckdb", sql).rows, table
    assert list(checking.faults(again.store.path)) == []


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
            assert list(checking.faults(to / "flywheel.duckdb")) == []
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


def test_a_killed_backup_is_none_and_the_next_one_of_the_name_cleans_up(turned: Path, tmp_path: Path) -> None:
    die = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom flywheel.integrity import backup\n"
        "from flywheel.workspace import Workspace\n"
        "backup.refuse_differences = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "backup.back_up(Workspace(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    to = tmp_path / "to" / "copy"
    died = subprocess.run([sys.executable, "-c", die, turned, to], check=False)
    assert died.returncode == -signal.SIGKILL
    assert not to.exists()
    back_up(Workspace(turned), to)
    assert os.listdir(to.parent) == ["copy"]


def test_a_full_disk_leaves_nothing_and_is_told_in_one_line(
    turned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup.shutil, "copyfile", full)
    with pytest.raises(StoreError, match=r"cannot write the backup .*: No space left on device; nothing is left of it"):
        back_up(Workspace(turned), tmp_path / "to" / "copy")
    assert os.listdir(tmp_path / "to") == []


def test_what_was_not_written_as_it_was_read_is_no_backup(
    turned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = backup._write_folder

    def broken(sources: dict[str, Path], to: Path) -> None:
        written(sources, to)
        (to / "config.yaml").write_text("seed: 1")

    monkeypatch.setattr(backup, "_write_folder", broken)
    with pytest.raises(StoreError, match=r"config.yaml is not what the backup's backup.json says"):
        back_up(Workspace(turned), tmp_path / "copy")
    assert os.listdir(tmp_path) == []


def test_a_model_that_is_not_what_was_recorded_is_not_backed_up(turned: Path, tmp_path: Path) -> None:
    folder = copy(turned, tmp_path)
    weights = folder / "models" / "generator-r1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\1\2\3\4")
    with pytest.raises(StoreError, match=r"generator-r1-\w+ is not what was recorded"):
        back_up(Workspace(folder), tmp_path / "copy")
    assert os.listdir(tmp_path) == ["workspace"]


def test_a_model_that_is_gone_is_told_and_the_rest_is_backed_up(turned: Path, tmp_path: Path, cli: Cli) -> None:
    folder = copy(turned, tmp_path)
    shutil.rmtree(folder / "models" / "generator-r1")
    told = cli("-w", folder, "backup", tmp_path / "copy")
    assert told.code == 0
    assert "its folder is gone: generator-r1-" in told.err
    assert cli("-w", tmp_path / "new", "restore", tmp_path / "copy").code == 0
    assert files(tmp_path / "new") == files(tmp_path / "copy")


def test_a_backup_of_a_broken_database_is_not_restored(turned: Path, tmp_path: Path, cli: Cli) -> None:
    """One that an older flywheel made, which did not read every block."""
    to = tmp_path / "copy"
    back_up(Workspace(turned), to)
    content = bytearray((to / backup.DATABASE).read_bytes())
    with duckdb.connect(str(turned / "flywheel.duckdb"), read_only=True) as db:
        texts = db.execute("SELECT raw FROM tasks WHERE length(raw) > 60").fetchall()
    content[next(place for (raw,) in texts if (place := content.find(raw.encode()[20:40])) > 0)] ^= 0xFF
    (to / backup.DATABASE).write_bytes(content)
    manifest = json.loads((to / backup.MANIFEST).read_text())
    manifest["files"][backup.DATABASE]["sha256"] = digest_file(to / backup.DATABASE)
    (to / backup.MANIFEST).write_text(json.dumps(manifest))
    outcome = cli("-w", tmp_path / "new", "restore", to)
    assert (outcome.code, "Corrupt" in outcome.err, len(outcome.err.splitlines())) == (1, True, 1), outcome.err
    assert os.listdir(tmp_path) == ["copy"]


def test_what_somebody_has_beside_is_left(turned: Path, tmp_path: Path, cli: Cli) -> None:
    for name in ("copy.tmp", "copy.parts.tmp", "new.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    made = cli("-w", turned, "backup", tmp_path / "copy")
    assert (made.code, "its folder is gone" in made.err) == (0, False), made.err
    assert cli("-w", tmp_path / "new", "restore", tmp_path / "copy").code == 0
    assert all((tmp_path / name / "mine").exists() for name in ("copy.tmp", "copy.parts.tmp", "new.tmp"))
    refused = cli("-w", turned, "backup", tmp_path / "copy" / backup.CONFIG / "x")
    assert (refused.code, len(refused.err.splitlines())) == (1, 1), refused.err


def test_nothing_is_restored_over_what_cannot_be_written(turned: Path, tmp_path: Path, cli: Cli) -> None:
    back_up(Workspace(turned), tmp_path / "copy")
    with mounted(tmp_path / "disk", megabytes=64) as disk:
        folder = Path(shutil.copytree(turned, disk / "wheel"))
        with read_only(disk):
            outcome = cli("-w", folder, "restore", tmp_path / "copy", "--overwrite")
    assert (outcome.code, "Read-only file system" in outcome.err, "at work" in outcome.err) == (1, True, False), outcome.err


def test_files_in_the_workspace_that_the_config_names_are_in_the_backup(turned: Path, tmp_path: Path) -> None:
    folder = copy(turned, tmp_path)
    (folder / "mine").mkdir()
    (folder / "mine" / "seeds.jsonl").write_text("{}")
    (folder / "notes.txt").write_text("of no concern")
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(
        config.replace("seeds: asset:data/nano/seeds.jsonl", f"seeds: {folder}/mine/seeds.jsonl")
    )
    back_up(Workspace(folder), tmp_path / "copy")
    assert (tmp_path / "copy" / "mine" / "seeds.jsonl").exists()
    assert not (tmp_path / "copy" / "notes.txt").exists()


def test_a_place_that_is_taken_or_in_the_workspace_is_refused(turned: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "copy").mkdir()
    for to, told in (
        (tmp_path / "copy", "is there already"),
        (turned / "models" / "copy", "is in the workspace"),
        (tmp_path / "copy.tar.gz", "ends in .tar: compress that"),
    ):
        outcome = cli("-w", turned, "backup", to)
        assert outcome.code == 1
        assert told in outcome.err
    assert "no database at" in cli("-w", tmp_path / "none", "backup", tmp_path / "other").err


def test_restoring_over_a_workspace_has_to_be_asked_for_and_keeps_it(turned: Path, tmp_path: Path, cli: Cli) -> None:
    back_up(Workspace(turned), tmp_path / "copy")
    place = tmp_path / "workspace"
    place.mkdir()
    (place / "mine.txt").write_text("mine")
    refused = cli("-w", place, "restore", tmp_path / "copy")
    assert (refused.code, "is not empty" in refused.err) == (1, True)
    told = cli("-w", place, "restore", tmp_path / "copy", "--overwrite")
    assert told.err.strip() == f"what was there before is kept as {place}.replaced-1"
    assert (tmp_path / "workspace.replaced-1" / "mine.txt").read_text() == "mine"
    with Workspace(place).at_work():
        busy = cli("-w", place, "restore", tmp_path / "copy", "--overwrite")
    assert (busy.code, f"process {os.getpid()}, since" in busy.err) == (1, True)
    assert files(place) == files(tmp_path / "copy")


def test_a_broken_backup_is_refused_and_leaves_the_workspace(turned: Path, tmp_path: Path) -> None:
    to, place = tmp_path / "copy", Workspace(tmp_path / "new")
    back_up(Workspace(turned), to)
    weights = to / "models" / "generator-r1" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4] + b"\1\2\3\4")
    with pytest.raises(StoreError, match=r"models/generator-r1/model.safetensors is not what the backup's"):
        restore(to, place)
    weights.unlink()
    with pytest.raises(StoreError, match=r"is no whole backup: it lacks models/generator-r1/model.safetensors"):
        restore(to, place)
    weights.write_bytes(whole)
    manifest = json.loads((to / backup.MANIFEST).read_text())
    for change, told in (
        ({"format": 99}, "of a newer flywheel"),
        ({"files": manifest["files"] | {"../evil": {"sha256": "", "size": 0}}}, "which is outside of a workspace"),
        ({"files": 3}, "is not what `flywheel backup` writes"),
        ({"files": []}, "is not what `flywheel backup` writes"),
        ({"files": manifest["files"] | {backup.CONFIG: 5}}, "is not what `flywheel backup` writes"),
        ({"rounds": 5}, "is not what `flywheel backup` writes"),
        ({"files": {}}, r"names no flywheel\.duckdb"),
    ):
        (to / backup.MANIFEST).write_text(json.dumps(manifest | change))
        with pytest.raises(StoreError, match=told):
            restore(to, place)
    (to / backup.MANIFEST).write_text("[]")
    with pytest.raises(StoreError, match=r"its backup\.json is not what"):
        restore(to, place)
    (to / backup.MANIFEST).unlink()
    with pytest.raises(StoreError, match=r"it has no backup\.json"):
        restore(to, place)
    with pytest.raises(StoreError, match="there is nothing of that name"):
        restore(tmp_path / "nowhere", place)
    assert sorted(os.listdir(tmp_path)) == ["copy"]


def test_a_broken_tar_is_refused(turned: Path, tmp_path: Path) -> None:
    to, place = tmp_path / "copy.tar", Workspace(tmp_path / "new")
    back_up(Workspace(turned), to)
    content = to.read_bytes()
    with tarfile.open(to) as tar:
        start = tar.getmember("models/generator-r1/model.safetensors").offset_data
    to.write_bytes(content[:start] + b"\0\0\0\0" + content[start + 4 :])
    with pytest.raises(StoreError, match=r"models/generator-r1/model.safetensors is not what"):
        restore(to, place)
    to.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match=r"is no whole \.tar"):
        restore(to, place)
    assert os.listdir(tmp_path) == ["copy.tar"]
