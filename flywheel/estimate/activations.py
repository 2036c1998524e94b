"""How many bytes a model keeps of a batch for its gradients: counted, by running it with tensors that have no numbers in them.

Formulas for it go by architecture and go stale; what autograd would keep does not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from flywheel.config import TrainingConfig
from flywheel.estimate.roofline import BYTES
from flywheel.estimate.sizes import language_model

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel


def kept_by_generator(
    config: PretrainedConfig, training: TrainingConfig, *, texts: int, length: int, device: str, trust_remote_code: bool
) -> int | None:
    """Bytes of a language model's activations over a batch and its loss; None for a model that cannot be followed so.

    With gradient checkpointing they are those of one layer, and what goes into each of the others.
    """
    from flywheel.reward.slice import shortened

    layers = int(config.get_text_config().num_hidden_layers)
    followed = shortened(config, 1) if training.gradient_checkpointing else config

    def run(ids: torch.Tensor) -> PreTrainedModel:
        model = language_model(followed, dtype=frozen_type(training), trust_remote_code=trust_remote_code).train()
        model(input_ids=ids, labels=ids, use_cache=False)
        return model

    kept = _kept(run, texts, length, training.dtype, device)
    if kept is None or not training.gradient_checkpointing:
        return kept
    width = int(config.get_text_config().hidden_size)
    return kept + (layers - 1) * texts * length * width * BYTES[training.dtype]


def frozen_type(training: TrainingConfig) -> str:
    """What the weights are held in: those below adapters in half the size, where half is computed in."""
    return training.dtype if training.lora else "float32"


def kept_by_member(config: PretrainedConfig, *, texts: int, length: int, device: str) -> int | None:
    """Bytes of a reward model's activations over a batch, in float32; ``config`` is that of the sliced base."""

    def run(ids: torch.Tensor) -> PreTrainedModel:
        from transformers import AutoModel

        model = AutoModel.from_config(config).train()
        model(input_ids=ids)
        return model

    return _kept(run, texts, length, "float32", device)


def _kept(run: Callable[[torch.Tensor], PreTrainedModel], texts: int, length: int, kind: str, device: str) -> int | None:
    """What the layers save, each piece of memory once, without the weights themselves."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    # It tells at length of what it cannot follow.
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)
    sizes: dict[int, tuple[int, torch.UntypedStorage]] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage._cdata] = (storage.nbytes(), storage)  # held, or its place would be used again
        return tensor

    try:
        with FakeTensorMode(), torch.device(device):
            mixed = torch.autocast(device, dtype=torch.bfloat16, enabled=kind != "float32", cache_enabled=False)
            with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor), mixed:
                model = run(torch.zeros(texts, length, dtype=torch.long))
            weights = {one.untyped_storage()._cdata for one in model.parameters()}
    except Exception:  # whatever an architecture does that depends on numbers, such as sending tokens to experts
        return None
    return sum(size for place, (size, _) in sizes.items() if place not in weights)
