"""A round r1 that is opened without building or evaluating anything, for benchmarks of single stages."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.config import Config
from flywheel.core.progress import Silent
from flywheel.records import Chunk, Model, Proposal, Stage, Task
from flywheel.round.budget import Budget
from flywheel.round.context import RoundContext
from flywheel.round.opening import open_round
from flywheel.round.stage import open_stage
from flywheel.workspace import Workspace


def begin(workspace: Workspace, config: Config, reward: Model | None = None) -> RoundContext:
    """The unfinished r1 of a workspace, opened where it is not."""
    opened = open_round(workspace, config, reward, proposing=True)
    budget = Budget(config.budget, config.prices)
    return RoundContext(workspace=workspace, config=config, progress=Silent(), budget=budget, round=opened)


def give_tasks(run: RoundContext, tasks: Sequence[Task]) -> None:
    """Let a round have these tasks, as if its generator had proposed them after the first seeds."""
    demos = tuple(seed.task.task_id for seed in run.seeds[:3])
    rows = [Proposal(attempt=place, raw="", demos=demos, tokens=0, task=task) for place, task in enumerate(tasks)]
    with open_stage(run, Stage.PROPOSE, total=len(tasks), unit="tasks") as stage:
        if stage is not None:
            stage.commit(Chunk(rows=rows, last=True))
