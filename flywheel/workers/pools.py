"""The workers of a cluster before they start: each travels to a node and loads its model there, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flywheel.config import Config, EngineConfig
from flywheel.workers.storage import Stored, cache
from flywheel.workers.work import Work, generate, score

Handler = Callable[[Work], Work]
"""What a worker does with each chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Workers of one kind, and what each of them needs."""

    start: Callable[[], Handler]
    """Loads the model of a worker, on its node."""
    size: int
    cpus: float
    gpus: float


def start_engine(settings: EngineConfig, generator: Stored, converted: Path) -> Handler:
    """Start a worker with an engine; ``converted`` is for weights, on a disk that the nodes share with this process."""
    from flywheel.engines.factory import load

    folder = converted if generator.storage is None else cache() / "converted"
    return partial(generate, engine=load(settings, generator.fetch(), cache=folder, digest=generator.digest[:12]))


def start_scorer(config: Config, reward_model: Stored) -> Handler:
    """Start a worker with the reward model."""
    from flywheel.reward.model import load_scorer

    return partial(score, scorer=load_scorer(reward_model.fetch(), config))
