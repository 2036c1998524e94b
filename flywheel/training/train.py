"""Training the generator, in this process or in processes that `accelerate launch` starts, and the check before a round."""

from __future__ import annotations

from pathlib import Path

from flywheel.config import Config, TrainingConfig
from flywheel.core.progress import Advance
from flywheel.errors import ConfigError, DataError
from flywheel.records import Facts
from flywheel.training.job import Job


def train_generator(job: Job, advance: Advance) -> Facts:
    """Fine-tune a generator and save it whole; returns its rows, dropped rows and loss.

    Raises ConfigError for settings that do not fit this machine, the generator or trl, DataError where there is nothing to
    train on, ModelError where the loss is not a number, EngineError where memory runs out or a training process fails, and
    what ``advance`` raises.
    """
    if not job.examples:
        raise DataError(
            "no task of this round has a finished candidate, so there is nothing to train on",
            "Look at `candidates.finish_reason`: raise `sampling.max_tokens` where it is length, lower it where it is "
            "prompt-too-long.",
        )
    if job.config.processes > 1 or job.config.accelerate_config is not None:
        from flywheel.training.launch import launch

        return launch(job, _accelerate_config(job.config, job.base), advance)
    from flywheel.training.sft import free_memory, train

    try:
        return train(job, advance)
    finally:
        free_memory()


def check_training(config: Config, model: Path) -> None:
    """Raise ConfigError where the ``training`` section does not fit this machine or the model, before a round starts."""
    training, file = config.training, _accelerate_config(config.training, config.base)
    if file is not None:
        from accelerate.commands.config.config_args import load_config_from_file

        hint = "Write one with `accelerate config`."
        if not file.is_file():
            raise ConfigError(f"`training.accelerate_config` names {file}, which does not exist", hint)
        try:
            load_config_from_file(str(file))
        except Exception as error:  # of any kind: a parser's, or what accelerate stumbles over
            text = " ".join(str(error).split())[:200]
            raise ConfigError(f"accelerate cannot read {file} of `training.accelerate_config`: {text}", hint) from None
    if training.processes > 1:
        from flywheel.training.launch import has_gpus

        has_gpus(training.processes if file is None else 1)
    if training.lora is not None:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        from flywheel.training.lora import with_adapters

        trust = config.engine.trust_remote_code
        with torch.device("meta"):
            shape = AutoConfig.from_pretrained(model, trust_remote_code=trust)
            with_adapters(AutoModelForCausalLM.from_config(shape, trust_remote_code=trust), training.lora, seed=0)


def _accelerate_config(config: TrainingConfig, base: Path) -> Path | None:
    return base / Path(config.accelerate_config).expanduser() if config.accelerate_config is not None else None
