"""Which tasks a propose prompt shows: seeds in their sets, any seeds, or seeds and past winners."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Indel
from rapidfuzz.process import cdist

from flywheel.config import InstructionsConfig
from flywheel.core.seeds import generator
from flywheel.errors import ConfigError
from flywheel.instructions.filters import compared_text
from flywheel.instructions.similarity import words
from flywheel.instructions.tasks import DEMOS
from flywheel.records import SeedTask, Task

CONSIDERED = 2000
"""Past winners, drawn at random, that diverse ones are chosen from."""
DIVERSE = 200
"""Past winners that may become demos in a round."""


class Demos:
    """Draws the demos of each prompt; the same names draw the same demos."""

    def __init__(
        self, config: InstructionsConfig, seeds: Sequence[SeedTask], winners: Sequence[Task] = (), *, names: tuple[object, ...]
    ) -> None:
        """Raises ConfigError where there are too few seeds. ``winners`` are those of earlier rounds, for evolving demos."""
        self._mode, self._share, self._names = config.demos, config.evolving_share, names
        self._pool = list(dict.fromkeys(seed.task for seed in seeds))
        self._sets: dict[str, list[Task]] = {}
        for seed in seeds:
            if seed.set_name is not None:
                self._sets.setdefault(seed.set_name, []).append(seed.task)
        if len(self._pool) < DEMOS:
            hint = f"Add seed tasks until there are at least {DEMOS}."
            raise ConfigError(f"{config.seeds} has only {len(self._pool)} different tasks", hint)
        self._winners = diverse(winners, *names, compare=config.filters.compare) if self._mode == "evolving" else []

    def choose(self, number: int) -> list[Task]:
        """Three demos for the prompt with this number, in random order."""
        rng = generator("demos", *self._names, number)
        if self._mode == "sets":
            return rng.sample(self._sets[rng.choice(sorted(self._sets))], DEMOS)
        evolved = min(sum(rng.random() < self._share for _ in range(DEMOS)), len(self._winners)) if self._winners else 0
        chosen = rng.sample(self._winners, evolved)
        rest = [task for task in self._pool if task not in chosen]
        chosen += rng.sample(rest, DEMOS - evolved)
        return rng.sample(chosen, DEMOS)


def diverse(tasks: Sequence[Task], *names: object, compare: str, most: int = DIVERSE) -> list[Task]:
    """Diverse tasks: each next one is the least similar to all chosen before (Gonzalez 1985).

    Stops where all that are left equal a chosen one. The names seed the draw of those considered, and of the first.
    """
    rng = generator("diverse", *names)
    # Only the ids are in memory: the tasks may be many, and lie in a file.
    ids = np.fromiter((int(task.task_id, 16) for task in tasks), dtype=np.uint64, count=len(tasks))
    unique = np.unique(ids, return_index=True)[1]
    considered = [tasks[unique[place]] for place in rng.sample(range(len(unique)), min(CONSIDERED, len(unique)))]
    texts = [words(compared_text(task, compare)) for task in considered]
    chosen: list[Task] = []
    nearest = np.full(len(considered), -1.0)
    while len(chosen) < min(most, len(considered)):
        place = int(nearest.argmin())
        if nearest[place] >= 1.0:
            break
        chosen.append(considered[place])
        similarities = cdist([texts[place]], texts, scorer=Indel.normalized_similarity)[0]
        nearest = np.maximum(nearest, similarities)
    return chosen
