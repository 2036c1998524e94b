"""Low-rank adapters: added to a generator or a reward model, and merged into the generator after training."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig as PeftConfig
from peft import PeftModel, TaskType, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel

from flywheel.config import LoraConfig
from flywheel.errors import ConfigError


def with_adapters(model: PreTrainedModel, lora: LoraConfig, *, seed: int) -> PeftModel:
    """The generator with untrained adapters; raises ConfigError for targets that are missing or cannot have adapters."""
    torch.manual_seed(seed)
    adapted_model = adapted(model, lora, task="CAUSAL_LM", key="training.lora.targets")
    if any(isinstance(layer, BaseTunerLayer) for layer in (model.get_input_embeddings(), model.get_output_embeddings())):
        # trl reads the output's weights past an adapter; tied ones would be merged on one side only.
        raise ConfigError(
            f"`training.lora.targets` ({_targets(lora)}) names the embeddings, which cannot have adapters",
            "Remove the embeddings from `training.lora.targets`.",
        )
    return adapted_model


def adapted(model: PreTrainedModel, lora: LoraConfig, *, task: str, key: str) -> PeftModel:
    """The model with untrained adapters for a task of peft's; raises ConfigError, which names ``key``, for missing targets."""
    config = PeftConfig(
        task_type=TaskType(task), r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=_targets(lora)
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        message = f"`{key}` does not fit the model: {' '.join(str(error).split())[:200]}"
        raise ConfigError(message, f"Set `{key}` to modules of this model, or to all-linear.") from None


def merged(trained: PeftModel, weights: dict[str, Any], *, into: PreTrainedModel, lora: LoraConfig) -> PreTrainedModel:
    """The generator ``into``, with the adapters of ``trained``, whose weights are given, merged into it."""
    fresh = with_adapters(into, lora, seed=0)
    set_peft_model_state_dict(fresh, get_peft_model_state_dict(trained, state_dict=weights))
    whole = fresh.merge_and_unload()
    whole.config.pad_token_id = trained.config.pad_token_id
    whole.generation_config = trained.generation_config
    return whole


def _targets(lora: LoraConfig) -> str | list[str]:
    return lora.targets if isinstance(lora.targets, str) else list(lora.targets)
