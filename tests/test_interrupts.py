"""Ctrl-C and SIGTERM: one keeps the current chunk, two stop at once, and the same command resumes after either."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flywheel.cli.stopping import interruptible
from flywheel.core.progress import Silent
from flywheel.engines.ctranslate2_engine import CTranslate2Engine
from flywheel.errors import RESUME, Interrupted
from flywheel.round.loop import run_next_round
from flywheel.training import sft
from flywheel.workspace import Workspace
from tests.conftest import Cli, copy
from tests.test_faults import rows, same_round

pytestmark = pytest.mark.slow

CHUNKS = "SELECT chunks FROM stages WHERE round = 'r1' AND stage = 'answer'"


@pytest.mark.parametrize(
    ("signals", "code", "kept"),
    [
        ([signal.SIGINT], 130, 1),
        ([signal.SIGTERM], 143, 1),
        ([signal.SIGINT, signal.SIGINT], 130, 0),
        ([signal.SIGTERM, signal.SIGINT], 130, 0),
        ([signal.SIGTERM, signal.SIGTERM], 143, 0),
    ],
)
def test_a_signal_in_the_middle_of_a_chunk(
    cli: Cli, built: Path, turned: Path, tmp_path: Path, signals: list[int], code: int, kept: int
) -> None:
    folder = copy(built, tmp_path)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert cli("--workspace", folder, "propose").code == 0
    real = CTranslate2Engine.generate

    def signalled(self: CTranslate2Engine, *arguments: Any, **options: Any) -> Any:
        for number in signals:
            os.kill(os.getpid(), number)
        return real(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CTranslate2Engine, "generate", signalled)
        stopped = cli("--workspace", folder, "round")
    assert stopped.code == code
    assert stopped.stopped
    assert stopped.hint == RESUME
    assert rows(folder, CHUNKS) == [(kept,)]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    if len(signals) == 1:  # what a kill leaves is compared in tests/kills
        assert cli("--workspace", folder, "round").code == 0
        same_round(folder, turned)


def test_ctrl_c_in_a_training_keeps_a_checkpoint(
    cli: Cli, built: Path, turned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(copy(built, tmp_path))
    real = sft.train_resumably

    def signalled(trainer: Any, checkpoints: Path, *, minutes: float, advance: Any) -> Any:
        def step(done: int, total: int) -> None:
            if done == 2:
                os.kill(os.getpid(), signal.SIGINT)
            advance(done, total)

        return real(trainer, checkpoints, minutes=minutes, advance=step)

    with monkeypatch.context() as patch:
        patch.setattr(sft, "train_resumably", signalled)
        stopped = cli("--workspace", workspace.folder, "round")
    assert (stopped.code, stopped.hint) == (130, RESUME)
    assert [path.parent.name for path in workspace.models.glob("*.training/*/whole")] == ["checkpoint-2"]
    assert run_next_round(workspace, workspace.config(), Silent()) == "r1"
    same_round(workspace.folder, turned)


EARLY = """
import builtins, sys
real, strikes_at = builtins.__import__, sys.argv.pop(1)
def struck(name, *rest, **options):
    if name == strikes_at:
        raise KeyboardInterrupt
    return real(name, *rest, **options)
builtins.__import__ = struck
from flywheel.cli import main
main()
"""


@pytest.mark.parametrize("module", ["typer", "pydantic", "duckdb"])
def test_ctrl_c_while_libraries_are_imported_prints_no_traceback(module: str, tmp_path: Path) -> None:
    stopped = subprocess.run(
        [sys.executable, "-c", EARLY, module, "-w", tmp_path / "workspace", "rounds"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert stopped.returncode == 130
    assert [line.partition(":")[0] for line in stopped.stderr.splitlines()] in (["stopped"], ["stopped", "hint"])


def test_a_ctrl_c_that_a_library_turns_into_an_error_is_still_a_ctrl_c() -> None:
    def wrapped() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ValueError("Error building a validator") from error

    with pytest.raises(Interrupted) as stopped, interruptible():
        wrapped()
    assert stopped.value.signal == signal.SIGINT
    with pytest.raises(ValueError, match=r"^mine$"), interruptible():
        raise ValueError("mine")
