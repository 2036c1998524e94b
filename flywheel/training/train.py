"""Training the generator, in this process or in processes that `accelerate launch` starts, and the check before a round."""

from __future__ import annotations

from pathlib import Path

from flywheel.config import Config
from flywheel.core.functions import reason_of
from flywheel.core.progress import Advance
from flywheel.errors import ConfigError
from flywheel.records import Facts
from flywheel.training.job import Job


def train_generator(job: Job, advance: Advance) -> Facts:
    """Fine-tune a generator and save it whole; returns its rows, dropped rows and loss.

    Raises ConfigError for settings that do not fit this machine, the generator or trl, DataError where there is nothing to
    train on, ModelError where the loss is not a number, EngineError where memory runs out or a training process fails, and
    what ``advance`` raises.
    """
    if job.config.processes > 1 or job.accelerate_config is not None:
        from flywheel.training.launch import launch

        return launch(job, advance)
    from flywheel.training.sft import train

    return train(job, advance)


def check_training(config: Config, model: Path) -> None:
    """Raise ConfigError where the ``training`` section does not fit this machine or the model, before a round starts."""
    training = config.training
    if training.accelerate_config is not None:
        from accelerate.commands.config.config_args import load_config_from_file

        file, hint = config.path(training.accelerate_config), "Write one with `accelerate config`."
        if not file.is_file():
            raise ConfigError(f"no file at {file} (`training.accelerate_config`)", hint)
        try:
            load_config_from_file(str(file))
        except Exception as error:  # of any kind: a parser's, or what accelerate stumbles over
            message = f"accelerate cannot read {file} (`training.accelerate_config`): {reason_of(error)[:200]}"
            raise ConfigError(message, hint) from None
    if training.processes > 1:
        from flywheel.training.launch import has_gpus

        has_gpus(training)
    if training.lora is not None:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        from flywheel.training.lora import with_adapters

        trust = config.engine.trust_remote_code
        with torch.device("meta"):
            shape = AutoConfig.from_pretrained(model, trust_remote_code=trust)
            with_adapters(AutoModelForCausalLM.from_config(shape, trust_remote_code=trust), training.lora, seed=0)
