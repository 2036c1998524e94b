"""What the workers of a cluster are started with: it travels to a node as it is here, and the models are loaded there once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from flywheel.config import Config, EngineConfig
from flywheel.workers.storage import Stored, cache
from flywheel.workers.work import Work, score, write


class Step(Protocol):
    """What a worker does with each chunk, once it is started."""

    def start(self) -> Callable[[Work], Work]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """An engine on a generator."""

    settings: EngineConfig
    generator: Stored
    cache: Path
    """Where weights are converted to, on a disk that the nodes share with this process."""

    def start(self) -> Callable[[Work], Work]:
        """Start the engine."""
        from flywheel.engines.factory import load

        kept = self.cache if self.generator.storage is None else cache() / "converted"
        engine = load(self.settings, self.generator.fetch(), cache=kept, digest=self.generator.digest[:12])
        return partial(write, engine=engine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """The reward model."""

    config: Config
    reward_model: Stored

    def start(self) -> Callable[[Work], Work]:
        """Load the reward model."""
        from flywheel.reward.model import load_scorer

        return partial(score, scorer=load_scorer(self.reward_model.fetch(), self.config))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Workers that take the same step, and what each of them needs."""

    step: Step
    size: int
    cpus: float
    gpus: float
