"""Fixtures: a small configuration of the real thing, and workspaces whose wheel has turned."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from flywheel import config as configuration
from flywheel.cli import main
from flywheel.config import Config
from flywheel.core.assets import asset
from flywheel.instructions.prompts import Prompts
from flywheel.workspace import Workspace

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a shell's background job; tests send it
    signal.signal(signal.SIGINT, signal.default_int_handler)
HELD_OUT = 60
MEMBERS = ("thumbs", "pairs", "form")
Shared = Callable[[str, Callable[[Path], None]], Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command did: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The message of the error that ended it."""
        return self._line("error: ")

    @property
    def hint(self) -> str:
        """What the error suggests to do."""
        return self._line("hint: ")

    @property
    def stopped(self) -> str:
        """Why it stopped early."""
        return self._line("stopped: ")

    def _line(self, prefix: str) -> str:
        return next((line.removeprefix(prefix) for line in self.err.splitlines() if line.startswith(prefix)), "")


Cli = Callable[..., Outcome]


def refused(outcome: Outcome, *values: str) -> None:
    """The command failed as it should: exit code 1, one error that names these values, no traceback, nothing on stdout."""
    assert outcome.code == 1, outcome
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    assert [line for line in outcome.err.splitlines() if line.startswith("error: ")] == [f"error: {outcome.error}"]
    for value in values:
        assert value in outcome.error, outcome.err


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run the command line in this process."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["flywheel", *map(str, arguments)])
        out, err, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 0
        return Outcome(code=code, out=out.getvalue(), err=err.getvalue())

    return run


@pytest.fixture(scope="session")
def prompts() -> Prompts:
    return Prompts(asset("prompts"))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Makes a folder once per run, whichever of the test processes asks for it first."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def once(name: str, make: Callable[[Path], None]) -> Path:
        folder, ready = root / name, root / f"{name}.ready"
        with FileLock(root / f"{name}.lock"):
            if not ready.exists():
                folder.mkdir()
                make(folder)
                ready.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def small(shared: Shared) -> list[str]:
    """Overrides that make a round of the nano preset take seconds: few tasks, members of few steps."""
    files = {"heldout": HELD_OUT} | dict.fromkeys(MEMBERS, 800)

    def make(folder: Path) -> None:
        for name, rows in files.items():
            kept = asset(f"data/nano/{name}.jsonl").read_text().splitlines()[:rows]
            (folder / f"{name}.jsonl").write_text("\n".join(kept))

    folder = shared("small", make)
    sets = [
        f"evaluation.tasks={folder / 'heldout.jsonl'}",
        "instructions.tasks=80",
        "engine.chunk=48",
        "reward.joint.epochs=0.5",
    ]
    for name in MEMBERS:
        sets += [f"reward.members.{name}.data={folder / name}.jsonl", f"reward.members.{name}.epochs=0.5"]
    return sets


@pytest.fixture(scope="session")
def small_config(small: list[str]) -> Config:
    return configuration.load(configuration.find("nano"), small)


@pytest.fixture(scope="session")
def built(small: list[str], small_config: Config, shared: Shared) -> Path:
    """A workspace whose reward model is built and whose r0 is evaluated; copy it, do not change it."""

    def make(folder: Path) -> None:
        from flywheel.core.progress import Silent
        from flywheel.core.quiet import silence
        from flywheel.reward.build import build_reward_model
        from flywheel.round.budget import Budget
        from flywheel.round.context import RoundContext
        from flywheel.round.loop import run_stages
        from flywheel.round.opening import open_round

        silence()
        workspace = Workspace(folder / "workspace")
        workspace.init(configuration.find("nano"), small)
        reward = build_reward_model(small_config, workspace, Silent())
        opened = open_round(workspace, small_config, reward)
        budget = Budget(small_config.budget, small_config.prices)
        run_stages(RoundContext(workspace=workspace, config=small_config, progress=Silent(), budget=budget, round=opened))

    return shared("built", make) / "workspace"


@pytest.fixture(scope="session")
def turned(built: Path, shared: Shared) -> Path:
    """A workspace with r0, r1 and r2; copy it, do not change it."""

    def make(folder: Path) -> None:
        from flywheel.core.progress import Silent
        from flywheel.round.loop import run_next_round

        workspace = Workspace(copy(built, folder))
        for _ in range(2):
            run_next_round(workspace, workspace.config(), Silent())

    return shared("turned", make) / "workspace"


def copy(folder: Path, to: Path) -> Path:
    """A copy of a workspace: what is recorded is relative, so it works anywhere."""
    return Path(shutil.copytree(folder, to / "workspace"))
