"""The workers of a cluster before they start: each travels to a node and loads its model there, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from flywheel.config import Config, EngineConfig
from flywheel.workers.storage import Stored, cache
from flywheel.workers.work import Work, generate, score


class Worker(Protocol):
    """A worker that has not started."""

    def start(self) -> Callable[[Work], Work]:
        """Load its model and return what it does with each chunk."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Generating:
    """A worker with an engine."""

    settings: EngineConfig
    generator: Stored
    cache: Path
    """Where weights are converted to, on a disk that the nodes share with this process."""

    def start(self) -> Callable[[Work], Work]:
        from flywheel.engines.factory import load

        converted = self.cache if self.generator.storage is None else cache() / "converted"
        engine = load(self.settings, self.generator.fetch(), cache=converted, digest=self.generator.digest[:12])
        return partial(generate, engine=engine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """A worker with the reward model."""

    config: Config
    reward_model: Stored

    def start(self) -> Callable[[Work], Work]:
        from flywheel.reward.model import load_scorer

        return partial(score, scorer=load_scorer(self.reward_model.fetch(), self.config))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Workers of one kind, and what each of them needs."""

    worker: Worker
    size: int
    cpus: float
    gpus: float
