"""Trainings that lose little when they are stopped: checkpoints that are whole, and going on from the last one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from flywheel.errors import BudgetSpent

WHOLE = "whole"
"""File in a checkpoint that was written to its end."""
Advance = Callable[[int, int], None]
"""Takes the optimizer steps done and those in all; may raise BudgetSpent to stop."""


def train_resumably(trainer: Trainer, checkpoints: Path, *, minutes: float, advance: Advance) -> Any:
    """Train to the end, from the last whole checkpoint in the folder on; returns what the trainer returns.

    A checkpoint is written every so many minutes, and where ``advance`` raises BudgetSpent, which is raised again.
    The trainer must have ``checkpoints`` as its ``output_dir`` and ``save_strategy="no"``.
    """
    trainer.remove_callback(PrinterCallback)
    watching = _Watching(advance, minutes)
    trainer.add_callback(watching)
    result = trainer.train(resume_from_checkpoint=_last_whole(checkpoints))
    if watching.stopped:
        raise watching.stopped
    return result


class _Watching(TrainerCallback):
    """Tells the steps, has checkpoints written, and marks each when it is whole."""

    def __init__(self, advance: Advance, minutes: float) -> None:
        self._advance, self._every_s, self._last = advance, minutes * 60, time.monotonic()
        self.stopped: BudgetSpent | None = None

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        try:
            self._advance(state.global_step, state.max_steps)
        except BudgetSpent as spent:
            # The last step of all is not worth stopping at: the model is trained.
            if state.global_step < state.max_steps:
                self.stopped = spent
                control.should_save = control.should_training_stop = True
        if time.monotonic() - self._last >= self._every_s and state.global_step < state.max_steps:
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        self._last = time.monotonic()
        (Path(args.output_dir or ".") / f"checkpoint-{state.global_step}" / WHOLE).touch()


def _last_whole(checkpoints: Path) -> str | None:
    """The newest checkpoint that was written to its end; half-written ones are removed."""
    found = sorted(checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for path in found:
        if not (path / WHOLE).exists():
            shutil.rmtree(path)
    whole = [path for path in found if path.exists()]
    return str(whole[-1]) if whole else None
