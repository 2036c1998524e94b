"""Low-rank adapters on any model that is trained, generator or reward model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flywheel.config import LoraConfig
from flywheel.errors import ConfigError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def adapted(model: PreTrainedModel, lora: LoraConfig, *, task: str, key: str) -> PeftModel:
    """The model with untrained adapters; ``task`` is peft's name of what it is for.

    Raises ConfigError, which begins with ``key``, for targets that the model does not have.
    """
    from peft import LoraConfig as Peft
    from peft import TaskType, get_peft_model

    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    config = Peft(
        task_type=TaskType(task), r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise ConfigError(f"{key}: {' '.join(str(error).split())[:200]}") from None
