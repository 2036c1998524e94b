"""Members trained side by side, each in a process of its own, are those that are trained one after another."""

from __future__ import annotations

import _thread
import pickle
import signal
import subprocess
import sys
import time
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

pytestmark = pytest.mark.slow

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
    """Sees the processes while it counts the steps of all members; does something from one step on."""

    def __init__(self, at: int = 0, *, stop: bool = False, kill: bool = False, interrupt: bool = False) -> None:
        self.steps: list[tuple[int, int | None]] = []
        self.most: list[psutil.Process] = []
        self._at, self._stop, self._kill, self._interrupt = at, stop, kill, interrupt

    @contextmanager
    def work(self, name: str, *, total: int | None, unit: str, done: int = 0) -> Iterator[Counter]:
        assert name == "2 members"
        yield self

    def to(self, done: int, total: int | None = None) -> None:
        self.steps.append((done, total))
        at_work = processes(psutil.Process())
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
    models, expected = one_after_another(config, workspace), one_after_another(config, alone)
    assert list(models) == list(expected) == ["thumbs", "pairs"]
    for name, model in expected.items():
        twin = models[name]
        assert twin.digest == model.digest
        assert replace(twin.facts, seconds=0) == replace(model.facts, seconds=0)
        assert workspace.store.learning_curve(twin.model_id) == alone.store.learning_curve(model.model_id)


def processes(parent: psutil.Process) -> list[psutil.Process]:
    commands = [(process, process.as_dict(["cmdline"])["cmdline"] or ()) for process in parent.children()]  # () of a zombie
    return [process for process, command in commands if "flywheel.core.processes" in command]


def nothing_is_left(workspace: Workspace) -> None:
    assert list(workspace.models.glob("*.tmp")) == []


def test_members_trained_at_once_are_those_trained_one_after_another(
    config: Config, workspace: Workspace, alone: Workspace
) -> None:
    watching = Watching()
    members(config, workspace, watching)
    assert len(watching.most) == 2
    assert [done for done, _ in watching.steps] == list(range(1, 2 * STEPS + 1))
    assert watching.steps[0][1] is None
    assert watching.steps[-1][1] == 2 * STEPS
    nothing_is_left(workspace)
    same(config, workspace, alone)


def test_a_budget_stops_all_of_them_and_they_resume_from_there(config: Config, workspace: Workspace, alone: Workspace) -> None:
    with pytest.raises(BudgetSpent, match="enough"):
        members(config, workspace, Watching(at=6, stop=True))
    nothing_is_left(workspace)
    kept = [int(path.name.rpartition("-")[2]) for path in workspace.models.glob("*.training/checkpoint-*")]
    assert len(kept) == 2
    resumed = Watching()
    members(config, workspace, resumed)
    assert sum(kept) + len(resumed.steps) == 2 * STEPS
    same(config, workspace, alone)


def test_one_that_cannot_be_trained_stops_the_others_with_the_same_error_as_alone(config: Config, workspace: Workspace) -> None:
    thumbs = config.reward.members["thumbs"].model_copy(update={"args": {"optim": "prayer"}})
    reward = config.reward.model_copy(update={"members": config.reward.members | {"thumbs": thumbs}})
    broken = config.model_copy(update={"reward": reward})
    with pytest.raises(ConfigError) as error:
        members(broken, workspace, Watching())
    with pytest.raises(ConfigError, match="prayer") as error_alone:
        one_after_another(broken, workspace)
    assert error.value.args == error_alone.value.args
    nothing_is_left(workspace)


def test_a_killed_process_is_one_clear_error(config: Config, workspace: Workspace, alone: Workspace) -> None:
    with pytest.raises(EngineError, match="killed") as error:
        members(config, workspace, Watching(at=2, kill=True))
    assert "`reward.parallel`" in error.value.hint
    members(config, workspace, Watching())
    same(config, workspace, alone)


def test_ctrl_c_ends_the_processes(config: Config, workspace: Workspace) -> None:
    watching, before = Watching(at=2, interrupt=True), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            members(config, workspace, watching)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(watching.most) == 2
    assert not any(process.is_running() for process in watching.most)
    nothing_is_left(workspace)


SCRIPT = """
import pickle, sys
from pathlib import Path
from flywheel.core.progress import Silent
from flywheel.reward.build import Lab
from flywheel.workspace import Workspace

config, folder = sys.argv[1:]
print(*Lab(pickle.loads(Path(config).read_bytes()), Workspace(Path(folder)), Silent()).members())
"""
"""It has no main guard, so a process that imported it would train again."""


@pytest.fixture
def script(config: Config, workspace: Workspace, tmp_path: Path) -> list[str]:
    """A command that trains the members of a configuration."""
    (tmp_path / "config").write_bytes(pickle.dumps(config))
    (tmp_path / "script.py").write_text(SCRIPT)
    return [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "config"), str(workspace.folder)]


@pytest.mark.parametrize("kind", ["file", "-c"])
def test_a_script_without_a_main_guard_trains_members_at_once(script: list[str], kind: str) -> None:
    command = script if kind == "file" else [script[0], "-c", SCRIPT, *script[2:]]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "thumbs pairs\n"), done.stderr


def test_the_processes_of_a_killed_script_end(script: list[str], config: Config, tmp_path: Path) -> None:
    endless = config.model_copy(update={"reward": config.reward.model_copy(update={"args": {"max_steps": 100_000}})})
    (tmp_path / "config").write_bytes(pickle.dumps(endless))
    running = psutil.Popen(script)
    while len(children := processes(running)) < 2 or any(child.num_threads() < 2 for child in children):
        assert running.poll() is None
        time.sleep(0.1)
    running.kill()
    assert psutil.wait_procs(children, timeout=60)[1] == []
