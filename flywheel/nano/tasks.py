"""Tasks of the nano world, from fixed seeds: the held-out ones, and an endless stream of fresh ones."""

from __future__ import annotations

import random
from collections.abc import Iterator

from flywheel.nano.world import draw_task
from flywheel.records import Task

SEED = 20260101
HELD_OUT_TASKS = 500


def held_out_tasks() -> list[Task]:
    """Tasks that nothing is ever trained on."""
    rng = random.Random(f"{SEED}/held-out")
    tasks: dict[tuple[str, str], Task] = {}
    while len(tasks) < HELD_OUT_TASKS:
        task = draw_task(rng)
        tasks.setdefault((task.instruction, task.input), task)
    return list(tasks.values())


def fresh_tasks(name: str, excluded: set[tuple[str, str]]) -> Iterator[Task]:
    """An endless stream of tasks, none of them among the excluded (instruction, input) pairs."""
    rng = random.Random(f"{SEED}/{name}")
    while True:
        task = draw_task(rng)
        if (task.instruction, task.input) not in excluded:
            yield task
