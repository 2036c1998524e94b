"""Chunks that nobody can do: set aside with their error and named, while the round goes on without them."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from pathlib import Path

import pytest

from flywheel.core.progress import Silent
from flywheel.errors import EngineError
from flywheel.round.loop import run_next_round
from flywheel.store import reading
from flywheel.workers.work import Failed, LocalWorkers, Step, Work
from flywheel.workspace import Workspace
from tests.conftest import Cli, copy

pytestmark = pytest.mark.slow

SMALL = ("instructions.tasks=20", "engine.chunk=4", "training.epochs=1")


class Unlucky(LocalWorkers):
    """This process, in which some chunks of a stage cannot be done."""

    step, chunks = Step.GENERATE, range(1, 2)

    def run(self, chunks: Iterable[Work], *steps: Step) -> Generator[Work | Failed]:
        for index, work in enumerate(super().run(chunks, *steps)):
            unlucky = bool(work.tasks) and steps == (self.step,) and index in self.chunks
            yield Failed(index=index, error="ValueError: no such luck") if unlucky else work


@pytest.mark.parametrize(("step", "stage"), [(Step.GENERATE, "answer"), (Step.SCORE, "score")])
def test_a_round_goes_on_without_a_chunk_and_names_it(
    step: Step, stage: str, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    workspace = Workspace(copy(built, tmp_path))
    monkeypatch.setattr(Unlucky, "step", step)
    monkeypatch.setattr("flywheel.round.context.LocalWorkers", Unlucky)
    run_next_round(workspace, workspace.config(SMALL), Silent())
    path = workspace.store.path
    tasks = reading.query(path, "SELECT task_id FROM tasks WHERE kept ORDER BY attempt").rows
    winners = reading.query(path, "SELECT task_id FROM selections WHERE policy = 'best'").rows
    assert set(winners) <= {*tasks[:4], *tasks[8:]}
    aside = reading.query(path, "SELECT stage, chunk, task_id FROM failed_tasks ORDER BY ALL").rows
    assert aside == sorted((stage, 1, task_id) for (task_id,) in tasks[4:8])
    (failed,) = json.loads(cli("--workspace", workspace.folder, "show", "r1", "--json").out)["failed_chunks"]
    assert failed == {"stage": stage, "error": "ValueError: no such luck", "chunks": 1}
    assert "ValueError: no such luck" in cli("--workspace", workspace.folder, "show", "r1").out
    checked = cli("--workspace", workspace.folder, "doctor", "--deep")
    assert checked.code == 0, checked.out + checked.err


def test_a_stage_of_which_nothing_can_be_done_is_refused_and_goes_on(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(copy(built, tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(Unlucky, "chunks", range(100))
        patched.setattr("flywheel.round.context.LocalWorkers", Unlucky)
        with pytest.raises(EngineError, match="ValueError: no such luck"):
            run_next_round(workspace, workspace.config(SMALL), Silent())
    run_next_round(workspace, workspace.config(SMALL), Silent())
    assert reading.query(workspace.store.path, "SELECT * FROM failed_chunks").rows == []
