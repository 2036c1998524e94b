"""Whole rounds of nano on a cluster have the rows of a round in one process, whatever is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flywheel.core.progress import Counter, Silent
from flywheel.errors import RESUME
from flywheel.records import Stage
from flywheel.round.loop import run_next_round
from flywheel.store import reading
from flywheel.workspace import Workspace
from tests.conftest import copy
from tests.ray_cluster.conftest import NODE
from tests.ray_cluster.steps import slowed

TABLES = ("tasks", "candidates", "scores", "selections", "evaluations", "evaluation_scores", "metrics")
SETS = (
    "instructions.tasks=48", "engine.chunk=6", "instructions.paraphrases.per_winner=1", "training.epochs=1",
    "evaluation.resamples=200",
)  # fmt: skip


def on(cluster: Any, workers: int) -> list[str]:
    """Settings for so many workers, and one that scores."""
    return [*SETS, f"cluster.address={cluster.address}", f"cluster.workers={workers}"]


def all_rows(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    return {
        table: reading.query(folder / "flywheel.duckdb", f"SELECT * FROM {table} WHERE round = 'r1' ORDER BY ALL").rows
        for table in TABLES
    }


@pytest.fixture(scope="module")
def alone(built: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of a round without a cluster."""
    workspace = Workspace(copy(built, tmp_path_factory.mktemp("alone")))
    run_next_round(workspace, workspace.config(SETS), Silent())
    rows = all_rows(workspace.folder)
    assert all(rows.values())
    return rows


class Leaving:
    """Takes a node with a worker away after the first chunk of each piece of work that is done on the cluster.

    Another joins: once in the middle of the work, else after it.
    """

    def __init__(self, cluster: Any, nodes: Path) -> None:
        self._cluster, self._nodes, self._lacking = cluster, nodes, False
        self.left: list[str] = []

    @contextmanager
    def work(self, name: str, *, total: int | None, unit: str, done: int = 0) -> Iterator[Counter]:
        for one in self._nodes.iterdir():
            one.unlink()
        self._name = name.removeprefix("r1 ")
        yield self
        if self._lacking:
            self._join()

    def to(self, done: int, total: int | None = None) -> None:
        if self._name in self.left or self._name not in ("propose", "answer and score", "paraphrase", "evaluate"):
            return
        at_work = {one.name for one in self._nodes.iterdir()}
        node = next(one for one in self._cluster.worker_nodes if one.node_id in at_work)
        self._cluster.remove_node(node, allow_graceful=False)
        self.left.append(self._name)
        self._lacking = True
        if self._name == "answer and score":
            self._join()

    def _join(self) -> None:
        self._cluster.add_node(**NODE)
        self._lacking = False


def test_a_round_that_loses_a_node_in_every_stage_has_the_same_rows(
    cluster: Any, built: Path, alone: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = tmp_path / "nodes"
    nodes.mkdir()

    monkeypatch.setattr("flywheel.workers.cluster.start_engine", slowed(nodes, seconds=0.2))
    workspace, leaving = Workspace(copy(built, tmp_path)), Leaving(cluster, nodes)
    run_next_round(workspace, workspace.config(on(cluster, workers=3)), leaving)
    assert leaving.left == ["propose", "answer and score", "paraphrase", "evaluate"]
    assert all_rows(workspace.folder) == alone
    assert reading.query(workspace.store.path, "SELECT * FROM failed_chunks").rows == []


def test_a_round_whose_driver_is_stopped_and_killed_goes_on_and_has_the_same_rows(
    cluster: Any, built: Path, alone: dict[str, Any], tmp_path: Path
) -> None:
    workspace = Workspace(copy(built, tmp_path))
    sets = [part for one in on(cluster, workers=1) for part in ("--set", one)]
    arguments = ["--workspace", str(workspace.folder), "round", *sets]
    slow = f"from tests.ray_cluster.steps import slow_command; slow_command({str(tmp_path)!r})"

    def ended(stage: Stage, by: signal.Signals) -> tuple[int, str]:
        """How the command ends where a signal comes after a stage's first chunk."""
        driver = subprocess.Popen([sys.executable, "-c", slow, *arguments], stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while workspace.store.progress("r1", stage).chunks == 0:
            assert driver.poll() is None, driver.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        driver.send_signal(by)
        said = driver.communicate(timeout=60)[1]
        assert not workspace.store.progress("r1", stage).finished
        return driver.returncode, said.strip().splitlines()[-1]

    assert ended(Stage.PROPOSE, signal.SIGTERM) == (128 + signal.SIGTERM, f"hint: {RESUME}")
    code, _ = ended(Stage.ANSWER, signal.SIGKILL)
    assert code == -signal.SIGKILL
    resumed = subprocess.run([sys.executable, "-m", "flywheel.cli", *arguments], capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert all_rows(workspace.folder) == alone
