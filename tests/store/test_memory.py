"""What is read of a round is in memory block by block: four times the tasks take no more of it."""

from __future__ import annotations

import gc
import tracemalloc
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel import config as configuration
from flywheel.export import export as exporting
from flywheel.export.shapes import ExportOptions, Format
from flywheel.records import (
    Candidate,
    Chunk,
    FinishReason,
    Model,
    ModelKind,
    Origin,
    Policy,
    Proposal,
    Round,
    Score,
    Selection,
    Stage,
    Task,
)
from flywheel.round.selection import select_all
from flywheel.store import store as storing
from flywheel.workspace import Workspace

BLOCK = 125
FEW, MANY = 500, 2_000
GENERATOR, REWARD, JUDGE = (
    Model(kind=kind, name="m", path="m", digest="0" * 12) for kind in (ModelKind.GENERATOR, ModelKind.REWARD, ModelKind.JUDGE)
)


def filled(folder: Path, tasks: int) -> Workspace:
    workspace = Workspace(folder)
    workspace.init(configuration.find("nano"))
    store = workspace.store
    for model in (GENERATOR, REWARD, JUDGE):
        store.record_model(model)
    store.open_round(
        Round(
            round="r1", number=1, parent=None, status="done", seed=0, fingerprint="f", identity={}, engine={}, versions={},
            config=workspace.config().model_dump(mode="json"), generator_in=GENERATOR.model_id, generator_out=None,
            reward_model=REWARD.model_id, judge=JUDGE.model_id,
        )
    )  # fmt: skip
    of = [Task(instruction=f"Write {place}. {'Write well. ' * 20}", input="None") for place in range(tasks)]
    ids = [task.task_id for task in of]
    proposals = [
        Proposal(attempt=place, raw="", demos=(), tokens=1, task=task, origin=origin, parent=parent)
        for place, task in enumerate(of)
        for origin, parent in ((Origin.PROPOSED, None), (Origin.PARAPHRASED, task.task_id))
    ]
    candidates = [
        Candidate(
            task_id=id_, candidate=one, output="words " * 40, finish_reason=FinishReason.STOP, tokens=9, logprob=None, seed=0
        )
        for id_ in ids
        for one in range(2)
    ]
    scores = [Score(task_id=id_, candidate=one, model_id=REWARD.model_id, score=float(one)) for id_ in ids for one in range(2)]
    picks = [Selection(task_id=id_, policy=Policy.BEST, candidate=1, margin=1.0) for id_ in ids]
    for stage, rows in {
        Stage.PROPOSE: proposals, Stage.ANSWER: candidates, Stage.SCORE: scores, Stage.SELECT: picks,
    }.items():  # fmt: skip
        store.progress("r1", stage)
        store.commit("r1", stage, Chunk(rows=rows, last=True), seconds=0.0)
    return workspace


def written(workspace: Workspace) -> None:
    asked = ExportOptions(name="r1", to=workspace.folder / "out", form=Format.JSONL, overwrite=True)
    exporting.export(workspace, asked)


def picked(workspace: Workspace) -> None:
    for attempts in workspace.store.spans("r1", BLOCK):
        select_all(workspace.store.scored("r1", REWARD.model_id, attempts), "seed")


READ: dict[str, Callable[[Workspace], object]] = {
    "tasks": lambda workspace: deque(workspace.store.tasks("r1"), maxlen=0),
    "known tasks": lambda workspace: deque(workspace.store.kept_tasks(["r1"]), maxlen=0),
    "winners": lambda workspace: deque(workspace.store.winners(["r1"], paraphrases=True), maxlen=0),
    "selection": picked,
    "export": written,
}


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> list[Workspace]:
    return [filled(tmp_path_factory.mktemp(f"tasks-{tasks}") / "workspace", tasks) for tasks in (FEW, MANY)]


@pytest.mark.parametrize("read", READ.values(), ids=READ)
def test_memory_grows_with_the_block_and_not_with_the_round(
    read: Callable[[Workspace], object], workspaces: list[Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((storing, "BLOCK"), (storing, "BULK"), (exporting, "BULK")):
        monkeypatch.setattr(module, name, BLOCK)
    # What is imported and compiled on the first use is no round's.
    read(workspaces[0])
    few, many = (_peak(read, workspace) for workspace in workspaces)
    assert many < 2 * few


def _peak(read: Callable[[Workspace], object], workspace: Workspace) -> int:
    """Most memory that Python's objects took at once, in bytes: what DuckDB takes is bounded by its own limit."""
    gc.collect()
    tracemalloc.start()
    try:
        read(workspace)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
