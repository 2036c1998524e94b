"""Members trained side by side, each in a process of its own, are those that are trained one after another."""

from __future__ import annotations

import _thread
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from flywheel.config import Config, JointConfig
from flywheel.core.progress import Counter, Silent
from flywheel.errors import BudgetSpent, ConfigError, EngineError
from flywheel.records import Model
from flywheel.reward.build import Lab
from flywheel.workspace import Workspace
from tests.conftest import copy

STEPS = 8
"""Of each member."""


@pytest.fixture(autouse=True)
def _as_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the processes as here: the last digits of a sum depend on how many threads add it up."""
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    monkeypatch.setattr("flywheel.reward.side_by_side._environment", lambda place, parallel: threads)


@pytest.fixture
def config(small_config: Config) -> Config:
    """Two members, one of each kind, trained at once for some steps."""
    members = {name: small_config.reward.members[name] for name in ("thumbs", "pairs")}
    changes = {"joint": JointConfig(), "args": {"max_steps": STEPS}, "learning_rate": 1e-3, "parallel": 2}
    return small_config.model_copy(update={"reward": small_config.reward.model_copy(update=changes | {"members": members})})


@pytest.fixture
def workspace(built: Path, tmp_path: Path) -> Workspace:
    return Workspace(copy(built, tmp_path))


@pytest.fixture(scope="module")
def alone(built: Path, small_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(copy(built, tmp_path_factory.mktemp("alone")))


class Watching:
    """Sees what trains while it is told the steps of all members; does something from one step on."""

    def __init__(self, at: int = 0, *, stop: bool = False, kill: bool = False, interrupt: bool = False) -> None:
        self.told: list[tuple[int, int | None]] = []
        self.most: list[psutil.Process] = []
        self._at, self._stop, self._kill, self._interrupt = at, stop, kill, interrupt

    @contextmanager
    def work(self, name: str, *, total: int | None, unit: str, done: int = 0) -> Iterator[Counter]:
        assert name == "2 members"
        yield self

    def to(self, done: int, total: int | None = None) -> None:
        self.told.append((done, total))
        at_work = [one for one in psutil.Process().children() if "flywheel.reward.worker" in one.cmdline()]
        self.most = max(self.most, at_work, key=len)
        if self._at and done >= self._at:
            if self._stop:
                raise BudgetSpent("enough")
            if self._kill:
                at_work[0].kill()
            if self._interrupt:
                _thread.interrupt_main(signal.SIGINT)
            self._kill = self._interrupt = False


def members(config: Config, workspace: Workspace, progress: Any) -> dict[str, Model]:
    return Lab(config, workspace, progress).members()


def one_after_another(config: Config, workspace: Workspace) -> dict[str, Model]:
    return members(config.model_copy(update={"reward": config.reward.model_copy(update={"parallel": 1})}), workspace, Silent())


def same(config: Config, workspace: Workspace, alone: Workspace) -> None:
    """Both workspaces have the same members, which are not trained again."""
    found, wanted = one_after_another(config, workspace), one_after_another(config, alone)
    assert list(found) == list(wanted) == ["thumbs", "pairs"]
    for name, model in wanted.items():
        twin = found[name]
        assert twin.digest == model.digest
        assert replace(twin.facts, seconds=0) == replace(model.facts, seconds=0)
        assert workspace.store.learning_curve(twin.model_id) == alone.store.learning_curve(model.model_id)


def nothing_is_left(workspace: Workspace) -> None:
    assert list(workspace.models.glob("*.tmp")) == []


def test_members_trained_at_once_are_those_trained_one_after_another(
    config: Config, workspace: Workspace, alone: Workspace
) -> None:
    watching = Watching()
    members(config, workspace, watching)
    assert len(watching.most) == 2
    assert [done for done, _ in watching.told] == list(range(1, 2 * STEPS + 1))
    assert watching.told[0][1] is None
    assert watching.told[-1][1] == 2 * STEPS
    nothing_is_left(workspace)
    same(config, workspace, alone)


def test_a_budget_stops_all_of_them_and_they_go_on_from_there(config: Config, workspace: Workspace, alone: Workspace) -> None:
    with pytest.raises(BudgetSpent, match="enough"):
        members(config, workspace, Watching(at=6, stop=True))
    nothing_is_left(workspace)
    kept = [int(path.name.rpartition("-")[2]) for path in workspace.models.glob("*.training/checkpoint-*")]
    assert len(kept) == 2
    going_on = Watching()
    members(config, workspace, going_on)
    assert sum(kept) + len(going_on.told) == 2 * STEPS
    same(config, workspace, alone)


def test_one_that_cannot_be_trained_stops_the_others_and_is_told_as_alone(config: Config, workspace: Workspace) -> None:
    thumbs = config.reward.members["thumbs"].model_copy(update={"args": {"optim": "prayer"}})
    reward = config.reward.model_copy(update={"members": config.reward.members | {"thumbs": thumbs}})
    broken = config.model_copy(update={"reward": reward})
    with pytest.raises(ConfigError) as told:
        members(broken, workspace, Watching())
    with pytest.raises(ConfigError, match="prayer") as told_alone:
        one_after_another(broken, workspace)
    assert str(told.value) == str(told_alone.value)
    nothing_is_left(workspace)


def test_a_process_that_is_killed_is_one_line(config: Config, workspace: Workspace, alone: Workspace) -> None:
    said = r"^a training process was killed, as happens where memory is short; lower reward\.parallel or reward\.batch_size$"
    with pytest.raises(EngineError, match=said):
        members(config, workspace, Watching(at=2, kill=True))
    members(config, workspace, Watching())
    same(config, workspace, alone)


def test_whoever_stops_this_process_stops_the_others(config: Config, workspace: Workspace) -> None:
    watching, before = Watching(at=2, interrupt=True), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            members(config, workspace, watching)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(watching.most) == 2
    assert not any(one.is_running() for one in watching.most)
    nothing_is_left(workspace)
