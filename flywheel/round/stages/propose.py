"""Propose: new tasks, until as many are kept as the config asks for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

from flywheel.core.spool import Spooled
from flywheel.evaluation.diversity import task_diversity
from flywheel.instructions.demos import Demos
from flywheel.instructions.prompts import format_task
from flywheel.instructions.propose import propose as propose_tasks
from flywheel.records import Stage, Task
from flywheel.round.context import RoundContext
from flywheel.round.stage import open_stage


def propose(context: RoundContext) -> None:
    """Propose tasks; the last chunk carries the diversity of all kept tasks."""
    store, name, config = context.store, context.name, context.config.instructions
    with open_stage(context, Stage.PROPOSE, total=config.tasks, unit="tasks") as stage:
        if stage is None:
            return
        names = (context.config.seed, name, "propose")
        evolving = config.demos == "evolving"
        earlier_winners = (winner.task for winner in store.winners(context.earlier))
        so_far = store.proposed_so_far(name)
        kept = so_far.kept
        for chunk in propose_tasks(
            context.generate,
            context.prompts,
            config,
            demos=Demos(
                config, context.seeds, Spooled(earlier_winners, context.workspace.models) if evolving else [], names=names
            ),
            filters=context.filters,
            best=_task_scores(context),
            names=names,
            chunk=context.config.engine.chunk,
            done=so_far,
        ):
            new = [row.task for row in chunk.rows if row.reason is None and row.task]
            kept += len(new)
            if chunk.last:
                before = itertools.chain((seed.task for seed in context.seeds), store.kept_tasks(context.earlier))
                tasks = itertools.chain(store.kept_tasks([name]), new)
                chunk = replace(chunk, metrics=task_diversity(tasks, before, context.config.seed, name, count=kept))
            stage.commit(chunk)
            stage.progress.to(kept)


def _task_scores(context: RoundContext) -> Callable[[Sequence[Task]], list[float]]:
    """What ranks the tasks that one prompt gave."""
    if context.config.instructions.best_by == "novelty":
        return lambda tasks: [context.filters.novelty(task) for task in tasks]
    return lambda tasks: context.scorer.score_texts([f"Instruction: {format_task(task)}" for task in tasks])
