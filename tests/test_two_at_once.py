"""Several processes on one workspace: one turns the wheel, the others are told so, and who reads always sees whole chunks."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from flywheel.store import opening, reading
from flywheel.workspace import Workspace
from tests.conftest import Cli, copy, refused

pytestmark = pytest.mark.slow

AT_WORK = """
import sys, time
from pathlib import Path
from flywheel.workspace import Workspace
with Workspace(Path(sys.argv[1])).at_work():
    print("at work", flush=True)
    time.sleep(60)
"""
READING = (
    "import duckdb, sys, time; db = duckdb.connect(sys.argv[1], read_only=True); print('open', flush=True); time.sleep(60)"
)


@contextlib.contextmanager
def process(script: str, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that has printed a line, and that line; it and its children are killed at the end."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert started.stdout is not None
    try:
        yield started, started.stdout.readline().strip()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        started.stdout.close()


def test_a_second_round_names_the_process_that_is_using_the_workspace(cli: Cli, built: Path, tmp_path: Path) -> None:
    folder = copy(built, tmp_path)
    with process(AT_WORK, folder) as (holder, _):
        for command in (["round"], ["propose"], ["reward", "build"]):
            outcome = cli("--workspace", folder, *command)
            refused(outcome, f"process {holder.pid} on {socket.gethostname()} since 20", str(folder))
        assert cli("--workspace", folder, "rounds").code == 0


def test_what_a_killed_holder_leaves_keeps_nobody_out(built: Path, tmp_path: Path) -> None:
    workspace = Workspace(copy(built, tmp_path))
    with process(AT_WORK, workspace.folder) as (holder, _):
        holder.kill()
        holder.wait()
        assert (workspace.folder / "at-work.pid").read_text().split()[0] == str(holder.pid)
        with workspace.at_work():
            assert (workspace.folder / "at-work.pid").read_text().split()[0] == str(os.getpid())
    assert not (workspace.folder / "at-work.pid").exists()


@pytest.mark.parametrize("note", ["1 elsewhere 2026-01-01T00:00:00+00:00", "1", "", "not a number at all"])
def test_a_note_about_a_process_that_is_somebody_else_now_keeps_nobody_out(built: Path, tmp_path: Path, note: str) -> None:
    workspace = Workspace(copy(built, tmp_path))
    (workspace.folder / "at-work.pid").write_text(note)  # process 1 always runs
    with workspace.at_work():
        pass


def test_readers_see_whole_chunks_while_a_round_writes(built: Path, tmp_path: Path) -> None:
    folder = copy(built, tmp_path)
    path = folder / "flywheel.duckdb"
    sql = """
        SELECT coalesce((SELECT rows FROM stages WHERE round = 'r1' AND stage = 'propose'), 0),
            (SELECT count(*) FROM tasks WHERE round = 'r1'),
            coalesce((SELECT rows FROM stages WHERE round = 'r1' AND stage = 'answer'), 0),
            (SELECT count(*) FROM candidates WHERE round = 'r1'),
            coalesce((SELECT rows FROM stages WHERE round = 'r1' AND stage = 'score'), 0),
            (SELECT count(*) FROM scores WHERE round = 'r1' AND model_id = (SELECT reward_model FROM rounds WHERE round = 'r1'))
    """
    seen: set[tuple[int, ...]] = set()
    ours, busy = 0, list[str]()
    command = [sys.executable, "-m", "flywheel.cli", "--workspace", str(folder), "round", "--set", "instructions.tasks=60"]
    with (tmp_path / "said").open("w") as said:
        running = subprocess.Popen(command, stderr=said, stdout=said)
        while running.poll() is None:
            (found,) = reading.query(path, sql).rows  # as `flywheel sql` does: it waits where it must
            seen.add(found)
            ours += 1
            try:  # as DuckDB's own shell or a notebook does
                with duckdb.connect(str(path), read_only=True) as db:
                    seen.update(db.execute(sql).fetchall())
            except duckdb.IOException as error:
                busy.append(str(error))
    assert running.returncode == 0, (tmp_path / "said").read_text()
    for proposed, tasks, answered, candidates, scored, scores in seen:
        assert (proposed, answered, scored) == (tasks, candidates, scores)
    assert len(seen) >= 4  # among them states in the middle of the round
    assert all("lock on file" in error for error in busy)
    assert len(busy) < ours


def test_a_round_that_a_reader_keeps_out_says_so_and_goes_on(
    cli: Cli, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy(built, tmp_path)
    path = folder / "flywheel.duckdb"
    with process(READING, path) as (reader, _), monkeypatch.context() as patch:
        patch.setattr(opening, "WAIT_TO_WRITE_S", 0.6)
        patch.setattr(opening, "WARN_AFTER_S", 0.1)
        outcome = cli("--workspace", folder, "propose")
        refused(outcome, str(path), str(reader.pid))
        assert any(str(reader.pid) in line for line in outcome.err.splitlines() if not line.startswith("error: "))
        assert cli("--workspace", folder, "rounds").code == 0
    assert cli("--workspace", folder, "propose").code == 0
