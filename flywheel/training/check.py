"""What would end a training when its round is nearly done, found before the round begins."""

from __future__ import annotations

from pathlib import Path

from flywheel.config import Config, TrainingConfig
from flywheel.errors import ConfigError


def check_training(config: Config, model: Path) -> None:
    """Raise ConfigError where the ``training`` section does not fit this machine or the model that is trained."""
    file = accelerate_file(config.training, config.base)
    if file is not None:
        _refuse_unreadable(file)
    if config.training.processes > 1:
        from flywheel.training.launch import has_gpus

        has_gpus(config.training.processes if file is None else 1)
    if config.training.lora is not None:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        from flywheel.training.adapters import with_adapters

        trust = config.engine.trust_remote_code
        with torch.device("meta"):
            shape = AutoConfig.from_pretrained(model, trust_remote_code=trust)
            with_adapters(AutoModelForCausalLM.from_config(shape, trust_remote_code=trust), config.training.lora, seed=0)


def accelerate_file(config: TrainingConfig, base: Path) -> Path | None:
    """The config file of ``accelerate launch``, whose path starts from ``base``."""
    return base / Path(config.accelerate_config).expanduser() if config.accelerate_config is not None else None


def _refuse_unreadable(file: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    if not file.is_file():
        raise ConfigError(f"training.accelerate_config: no file {file}; `accelerate config` writes one")
    try:
        load_config_from_file(str(file))
    except Exception as error:  # of any kind: a parser's, or what accelerate stumbles over
        words = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"training.accelerate_config: accelerate cannot read {file} ({words}); `accelerate config` writes one"
        ) from None
