"""Checkpoints: written at intervals and when a training is stopped, and resumed from.

Where several processes train together, the first one decides for all, and waits for all.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from flywheel.core.files import sync_tree
from flywheel.core.progress import Advance
from flywheel.errors import BudgetSpent, Stopped

WHOLE = "whole"
"""The file that marks a complete checkpoint."""


def train_resumably(trainer: Trainer, checkpoints: Path, *, minutes: float, advance: Advance) -> Any:
    """Train to the end, from the last complete checkpoint in the folder; returns what the trainer returns.

    A checkpoint is written every ``minutes``, and where ``advance`` raises Stopped, which is raised again.
    ``advance`` is called in the first process only. The trainer must have ``checkpoints`` as its ``output_dir`` and
    ``save_strategy="no"``.
    """
    trainer.remove_callback(PrinterCallback)
    trainer.args.save_total_limit = None  # the trainer would remove the last complete one before the new one is marked
    callback = _Callback(advance, minutes)
    trainer.add_callback(callback)
    if trainer.is_world_process_zero():
        for path in _checkpoints(checkpoints):
            if not (path / WHOLE).exists():
                shutil.rmtree(path)
    _wait_for_all()
    whole = _checkpoints(checkpoints)
    result = trainer.train(resume_from_checkpoint=str(whole[-1]) if whole else None)
    if callback.stopped:
        raise callback.stopped
    return result


class _Callback(TrainerCallback):
    """Reports the steps, requests checkpoints, and marks each when it is complete."""

    def __init__(self, advance: Advance, minutes: float) -> None:
        self._advance, self._every_s, self._last = advance, minutes * 60, time.monotonic()
        self.stopped: Stopped | None = None

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        spent: Stopped | None = None
        if state.is_world_process_zero:
            try:
                self._advance(state.global_step, state.max_steps)
            except Stopped as reason:
                spent = reason
        stop, save = spent is not None, time.monotonic() - self._last >= self._every_s
        if distributed.is_initialized():
            decided = torch.tensor([stop, save], dtype=torch.int32, device=args.device)
            distributed.broadcast(decided, 0)
            stop, save = map(bool, decided.tolist())
        # Stopping at the last step gains nothing: the model is trained.
        if state.global_step == state.max_steps:
            return
        if stop:
            self.stopped = spent or BudgetSpent("the first process was stopped")
            control.should_training_stop = True
        control.should_save = control.should_save or stop or save

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        self._last = time.monotonic()
        _wait_for_all()
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir or ".") / f"checkpoint-{state.global_step}"
            sync_tree(checkpoint)
            (checkpoint / WHOLE).touch()
            for path in _checkpoints(checkpoint.parent):
                if path != checkpoint:
                    _remove(path)


def discard(checkpoints: Path) -> None:
    """Remove the checkpoints of a finished training."""
    for path in _checkpoints(checkpoints):
        _remove(path)
    shutil.rmtree(checkpoints, ignore_errors=True)


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint, its mark first: a kill in between must not leave one that only seems complete."""
    (checkpoint / WHOLE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


def _wait_for_all() -> None:
    if distributed.is_initialized():
        distributed.barrier()


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
