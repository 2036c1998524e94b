"""Judge: the judges score candidates of some tasks, to measure what selecting is worth; they never select."""

from __future__ import annotations

import math
from contextlib import ExitStack
from functools import partial

from flywheel.evaluation.judges import ask, judge_models, load_judge_of
from flywheel.records import Chunk, Judge, Stage
from flywheel.round.context import RoundContext
from flywheel.round.stage import open_stage
from flywheel.round.work import scores_of
from flywheel.store.evaluations import outputs_by_task


def judge(context: RoundContext) -> None:
    """Ask every judge that is free about all candidates of up to ``evaluation.curve_tasks`` tasks."""
    size, most = context.config.engine.chunk, context.config.evaluation.curve_tasks
    total = min(context.config.instructions.tasks, most)
    with open_stage(context, Stage.JUDGE, total=total, unit="tasks") as stage, ExitStack() as stack:
        if stage is None:
            return
        judges = load_judges(context, stack, free_only=True)
        spans = context.store.spans(context.name, size)[: math.ceil(most / size)]
        for index, attempts in enumerate(spans[stage.done :], start=stage.done):
            tasks = context.answered(attempts)[: most - index * size]
            rows = [(task, candidate) for task, candidates in tasks for candidate in candidates]
            places = [(candidate.task_id, candidate.candidate) for _, candidate in rows]
            outputs = [(task, candidate.output) for task, candidate in rows]
            scores = [score for model_id, judge in judges.items() for score in scores_of(places, model_id, judge(outputs))]
            stage.commit(Chunk(rows=scores, last=index == len(spans) - 1))
            stage.progress.to(index * size + len(tasks))


def load_judges(context: RoundContext, stack: ExitStack, *, free_only: bool = False) -> dict[str, Judge]:
    """The judges by model id, the deciding one first; ``stack`` closes what they hold open."""
    config = context.config
    opponents = {} if context.round.number == 0 else outputs_by_task(context.store.path, "r0")
    judges: dict[str, Judge] = {}
    for model, (name, settings) in zip(judge_models(config), config.evaluation.all_judges.items(), strict=True):
        if free_only and not settings.is_free:
            continue
        loaded = load_judge_of(config, name, settings, opponents, context.budget.metered)
        stack.callback(getattr(loaded, "close", lambda: None))
        judges[model.model_id] = partial(ask, loaded, settings.function or name)
    return judges
