"""Low-rank adapters: put into a generator, and merged into it when they are trained."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel

from flywheel.config import LoraConfig
from flywheel.errors import ConfigError
from flywheel.training.lora import adapted


def with_adapters(model: PreTrainedModel, lora: LoraConfig, *, seed: int) -> PeftModel:
    """The model with untrained adapters; raises ConfigError for targets that it does not have or that cannot have any."""
    torch.manual_seed(seed)
    trained = adapted(model, lora, task="CAUSAL_LM", key="training.lora.targets")
    if any(isinstance(one, BaseTunerLayer) for one in (model.get_input_embeddings(), model.get_output_embeddings())):
        # trl reads the output's weights past an adapter; tied ones would be merged on one side only.
        named = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
        raise ConfigError(f"training.lora.targets ({named}) names the embeddings, which get no adapters; leave them out")
    return trained


def merged(trained: PeftModel, weights: dict[str, Any], *, into: PreTrainedModel, lora: LoraConfig) -> PreTrainedModel:
    """A fresh copy of what was trained, with the trained adapters merged into it; ``weights`` are those of ``trained``."""
    fresh = with_adapters(into, lora, seed=0)
    set_peft_model_state_dict(fresh, get_peft_model_state_dict(trained, state_dict=weights))
    whole = fresh.merge_and_unload()
    whole.config.pad_token_id = trained.config.pad_token_id
    whole.generation_config = trained.generation_config
    return whole
