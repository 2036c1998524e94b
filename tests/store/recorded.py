"""A workspace with a round of any size, recorded without running anything."""

from __future__ import annotations

import hashlib
from pathlib import Path

import duckdb

from flywheel import config as configuration
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
from flywheel.workspace import Workspace

GENERATOR, REWARD, JUDGE = (
    Model(kind=kind, name="m", path="m", digest="0" * 12) for kind in (ModelKind.GENERATOR, ModelKind.REWARD, ModelKind.JUDGE)
)


def recorded_round(folder: Path, number_of_tasks: int) -> Workspace:
    """A workspace with the round r1 up to its selection."""
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
    tasks = [Task(instruction=f"Write {number}. {'Write well. ' * 20}", input="None") for number in range(number_of_tasks)]
    proposals = [
        Proposal(attempt=number, raw=_noise(number), demos=(), tokens=1, task=task, origin=origin, parent=parent)
        for number, task in enumerate(tasks)
        for origin, parent in ((Origin.PROPOSED, None), (Origin.PARAPHRASED, task.task_id))
    ]
    candidates = [
        Candidate(
            task_id=task.task_id, candidate=number, output="words " * 40, finish_reason=FinishReason.STOP, tokens=9,
            logprob=None, seed=0,
        )
        for task in tasks
        for number in range(2)
    ]  # fmt: skip
    scores = [
        Score(task_id=row.task_id, candidate=row.candidate, model_id=REWARD.model_id, score=float(row.candidate))
        for row in candidates
    ]
    winners = [Selection(task_id=task.task_id, policy=Policy.BEST, candidate=1, margin=1.0) for task in tasks]
    for stage, rows in {
        Stage.PROPOSE: proposals, Stage.ANSWER: candidates, Stage.SCORE: scores, Stage.SELECT: winners,
    }.items():  # fmt: skip
        store.progress("r1", stage)
        store.commit("r1", stage, Chunk(rows=rows, last=True), seconds=0.0)
    return workspace


def _noise(number: int) -> str:
    """A text that no compression shortens."""
    return hashlib.sha512(str(number).encode()).hexdigest()


def break_text(path: Path) -> None:
    """Change a byte of a text in a block of the table of tasks."""
    with duckdb.connect(str(path), read_only=True) as db:
        texts = db.execute("SELECT raw FROM tasks WHERE length(raw) > 60").fetchall()
    content = bytearray(path.read_bytes())
    place = next(place for (text,) in texts if (place := content.find(text.encode()[20:40])) > 0)
    content[place] ^= 0xFF
    path.write_bytes(content)
