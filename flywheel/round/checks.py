"""What is checked before a round starts, so that nothing fails late that could have failed at once."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.config import Config
from flywheel.core.model_folders import local_folder
from flywheel.engines.generator import generator_folder
from flywheel.errors import DataError
from flywheel.evaluation.judges import check_judges, judge_models
from flywheel.instructions.demos import Demos
from flywheel.instructions.filters import Filters, Protected
from flywheel.instructions.prompts import prompts_of
from flywheel.instructions.tasks import DEMOS, REWORDED_DEMOS, read_held_out, read_reworded, read_seeds, read_tasks
from flywheel.records import SeedTask, Task
from flywheel.round.fingerprint import held_out_digest
from flywheel.training import check_training
from flywheel.workspace import Workspace


def check_inputs(config: Config, *, reach: bool = True) -> None:
    """Read every input once, and raise for the first that a round could not use; ``reach`` as in `check_judges`."""
    instructions = config.instructions
    seeds = read_seeds(config.path(instructions.seeds))
    Demos(instructions, seeds, names=())
    held_out = [row.task for row in read_held_out(config.path(config.evaluation.tasks))]
    _refuse_held_out_seeds(config, seeds, held_out)
    tasks = held_out[:3]
    for path in instructions.filters.decontaminate:
        read_tasks(config.path(path))
    Filters(instructions.filters, protected=[], known=[]).check_text(tasks[0])
    check_training(config, local_folder(config.model(config.training.student or config.generator)))
    prompts = prompts_of(config, generator_folder(config))
    prompts.propose([seed.task for seed in seeds[:DEMOS]])
    prompts.answer(tasks[0])
    if instructions.paraphrases.per_winner:
        prompts.paraphrase(tasks[0], read_reworded(config.path(instructions.paraphrases.demos))[:REWORDED_DEMOS])
    check_judges(config, tasks, reach=reach)


def why_no_verdict(workspace: Workspace, config: Config) -> str | None:
    """Why the next round could not be compared with the last one, where that can be known before it runs."""
    rounds = workspace.store.rounds() if workspace.store.path.exists() else []
    if not rounds:
        return None
    last, held_out = rounds[-1], read_held_out(config.path(config.evaluation.tasks))
    changed = [
        key
        for key, before, now in (
            ("evaluation.tasks", last.identity["digest.heldout"], held_out_digest(held_out)),
            ("evaluation.judge", last.judge, judge_models(config)[0].model_id),
            ("evaluation.samples", last.config["evaluation"]["samples"], config.evaluation.samples),
        )
        if before != now
    ]
    return f"The next round will have no verdict: {', '.join(changed)} changed since {last.round}." if changed else None


def _refuse_held_out_seeds(config: Config, seeds: Sequence[SeedTask], held_out: Sequence[Task]) -> None:
    """Raise DataError for a seed that is a held-out task: the generator would see what it is measured on."""
    protected = Protected(held_out, config.instructions.filters)
    for number, seed in enumerate(seeds, start=1):
        if protected.overlap(seed.task).reason is not None:
            raise DataError(
                f"seed {number} of {config.instructions.seeds} ({seed.task.instruction[:60]!r}) overlaps with a held-out task "
                f"of {config.evaluation.tasks}",
                "Remove the seed or the held-out task.",
            )
