"""Rounds are read block by block, so memory does not grow with the number of tasks."""

from __future__ import annotations

import gc
import tracemalloc
from collections import deque
from collections.abc import Callable

import pytest

from flywheel.export import export as exporting
from flywheel.export.shapes import ExportOptions, Format
from flywheel.round.selection import select_all
from flywheel.store import store as storing
from flywheel.workspace import Workspace
from tests.store.recorded import REWARD, recorded_round

pytestmark = pytest.mark.slow

BLOCK = 125
FEW, MANY = 500, 2_000


def export(workspace: Workspace) -> None:
    asked = ExportOptions(name="r1", to=workspace.folder / "out", form=Format.JSONL, overwrite=True)
    exporting.export(workspace, asked)


def select(workspace: Workspace) -> None:
    for attempts in workspace.store.spans("r1", BLOCK):
        select_all(workspace.store.scored("r1", REWARD.model_id, attempts), "seed")


READ: dict[str, Callable[[Workspace], object]] = {
    "tasks": lambda workspace: deque(workspace.store.tasks("r1"), maxlen=0),
    "kept tasks": lambda workspace: deque(workspace.store.kept_tasks(["r1"]), maxlen=0),
    "winners": lambda workspace: deque(workspace.store.winners(["r1"], paraphrases=True), maxlen=0),
    "selection": select,
    "export": export,
}


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> list[Workspace]:
    return [recorded_round(tmp_path_factory.mktemp(f"tasks-{tasks}") / "workspace", tasks) for tasks in (FEW, MANY)]


@pytest.mark.parametrize("read", READ.values(), ids=READ)
def test_memory_grows_with_the_block_and_not_with_the_round(
    read: Callable[[Workspace], object], workspaces: list[Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((storing, "BLOCK"), (storing, "BULK"), (exporting, "BULK")):
        monkeypatch.setattr(module, name, BLOCK)
    # The first use imports and compiles, whatever the size of the round.
    read(workspaces[0])
    few, many = (_peak(read, workspace) for workspace in workspaces)
    assert many < 2 * few


def _peak(read: Callable[[Workspace], object], workspace: Workspace) -> int:
    """The peak memory of Python objects in bytes; DuckDB has a limit of its own."""
    gc.collect()
    tracemalloc.start()
    try:
        read(workspace)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
