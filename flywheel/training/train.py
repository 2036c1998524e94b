"""The way into a training: in this process, or in processes that `accelerate launch` starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.config import TrainingConfig
from flywheel.errors import DataError
from flywheel.records import Facts
from flywheel.training.check import accelerate_file
from flywheel.training.examples import Example
from flywheel.training.job import Job
from flywheel.training.launch import launch

if TYPE_CHECKING:
    from flywheel.core.progress import Advance


def train_generator(
    start: str,
    folder: Path,
    examples: Sequence[Example],
    config: TrainingConfig,
    *,
    seed: int,
    advance: Advance,
    checkpoints: Path,
    base: Path = Path("."),
    trust_remote_code: bool = False,
) -> Facts:
    """Fine-tune the generator at ``start`` and save it, whole, in ``folder``; returns its rows, dropped rows and loss.

    ``checkpoints`` is a folder for what a stopped training goes on from; it is removed at the end. The path in
    ``training.accelerate_config`` starts from ``base``. Raises ConfigError for settings that this machine, the generator
    or trl do not take, DataError where there is nothing to train on, ModelError where the loss is no number, EngineError
    where memory is short or a process of the training fails, and again what ``advance`` raises.
    """
    if not examples:
        raise DataError(
            "no task of this round has a finished candidate, so there is nothing to train on; see candidates.finish_reason: "
            "raise sampling.max_tokens where it is length, lower it where it is prompt-too-long"
        )
    job = Job(
        start=start, folder=folder, examples=examples, config=config, seed=seed, checkpoints=checkpoints,
        trust_remote_code=trust_remote_code,
    )  # fmt: skip
    if config.processes > 1 or config.accelerate_config is not None:
        return Facts(**launch(job, accelerate_file(config, base), advance))
    from flywheel.training.sft import give_back, train

    try:
        return Facts(**train(job, advance))
    finally:
        give_back()
