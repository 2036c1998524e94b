"""Libraries that train and generate, without their own progress bars and warnings: flywheel shows progress."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable

from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class StepCallback(TrainerCallback):
    """Tells how many optimizer steps are done, of how many."""

    def __init__(self, advance: Callable[[int, int], None]) -> None:
        self._advance = advance

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        self._advance(state.global_step, state.max_steps)


def watch(trainer: Trainer, advance: Callable[[int, int], None]) -> None:
    """Have a trainer tell its steps to ``advance`` (done, in all) and print nothing."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(StepCallback(advance))


def silence() -> None:
    """Switch off what the libraries print; errors still come as exceptions."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import datasets
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    for name in ("trl", "accelerate", "mergekit", "ctranslate2"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(transformers|trl|torch|mergekit|accelerate|peft|ctranslate2)(\.|$)")
