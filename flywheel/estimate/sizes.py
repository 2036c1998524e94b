"""Models by their configuration alone: how many parameters, layers and bytes, without a weight being read.

A dry run must not fetch gigabytes: of a model that is not on disk it reads config.json, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.core.model_folders import local_folder, not_found
from flywheel.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

NOT_WEIGHTS = ["*.json", "*.txt", "*.model", "*.jinja"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where a model is described."""

    source: str
    """As the config names it."""
    folder: Path
    """Has its config.json."""
    whole: bool
    """Whether weights and tokenizer are there too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of a model that decide what it takes."""

    kind: str
    """Its architecture, as its config has it."""
    parameters: int
    looked_up: int
    """Parameters that no number is multiplied by: an embedding that is not the head too."""
    head: int
    """Parameters that a written token passes through and one that is only read does not: vocabulary times width."""
    layers: int
    width: int
    widest: int
    """Numbers of a token in the widest layer but the head."""
    edges: int
    """Inputs and outputs of all inner matrices together: what adapters of rank 1 have as parameters."""
    vocabulary: int
    cached: int
    """Numbers that a token leaves in the cache of keys and values."""
    positions: int | None
    """Tokens that it reads and writes together, where its config says so."""

    @property
    def body(self) -> int:
        """Parameters that every token is multiplied by."""
        return self.parameters - self.looked_up - self.head


def find_model(source: str) -> Found:
    """The folder of a model, or of its config.json where the model is a hub id that was not fetched yet.

    Raises ModelError for a missing or corrupt folder, and for a hub id whose config.json cannot be had.
    """
    if Path(source).exists() or source.startswith(("/", ".", "~")) or source.count("/") > 1:
        return Found(source=source, folder=local_folder(source), whole=True)
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    refusals = (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError)
    try:
        fetched = Path(snapshot_download(source, local_files_only=True))
        if next(fetched.glob("*.safetensors"), None):
            return Found(source=source, folder=local_folder(str(fetched)), whole=True)
    except refusals:
        pass
    try:
        return Found(source=source, folder=Path(hf_hub_download(source, "config.json")).parent, whole=False)
    except refusals as error:
        raise not_found(source, error) from None


def read_config(found: Found, *, trust_remote_code: bool = False) -> PretrainedConfig:
    """The configuration of a model; raises ModelError for one that transformers does not know."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(found.folder, trust_remote_code=trust_remote_code)
    except (ValueError, KeyError, OSError) as error:
        raise ModelError(f"{found.source}: config.json is of no model that transformers knows ({_line(error)})") from None


def language_model(config: PretrainedConfig, *, dtype: str = "float32", trust_remote_code: bool = False) -> PreTrainedModel:
    """A language model on the device of the context; on ``meta`` it takes no memory."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{config.model_type} models do not write ({_line(error)}); name a causal language model") from None


def shape_of(config: PretrainedConfig, *, trust_remote_code: bool = False) -> Shape:
    """The sizes of a language model. A mixture of experts counts whole, so its time is over-estimated."""
    import torch

    with torch.device("meta"):
        return _shape(language_model(config, trust_remote_code=trust_remote_code))


def reward_shape_of(config: PretrainedConfig, layers: int) -> Shape:
    """The sizes of the reward model that the first layers of a base make, without the row of a pad token of its own.

    Raises ModelError where the base has fewer layers.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    from flywheel.reward.slice import shortened

    if layers > int(config.num_hidden_layers):
        raise ModelError(f"reward.layers is {layers}, but the base has {config.num_hidden_layers}; ask for at most that")
    sliced = shortened(config, layers)
    sliced.num_labels = 1
    with torch.device("meta"):
        return _shape(AutoModelForSequenceClassification.from_config(sliced))


def _shape(model: PreTrainedModel) -> Shape:
    config: Any = model.config.get_text_config()
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    width, heads = int(config.hidden_size), int(config.num_attention_heads)
    keys = int(getattr(config, "num_key_value_heads", None) or heads)
    each = int(getattr(config, "head_dim", None) or width // heads)
    inner = [one.weight for one in model.modules() if hasattr(one, "weight") and one is not head and not _is_table(one)]
    matrices = [weight for weight in inner if weight.dim() == 2]
    positions = getattr(config, "max_position_embeddings", None)
    return Shape(
        kind=config.model_type,
        parameters=sum(one.numel() for one in model.parameters()),
        looked_up=0 if head is not None and head.weight is embedding else embedding.numel(),
        head=head.weight.numel() if head is not None else 0,
        layers=int(config.num_hidden_layers),
        width=width,
        widest=max(max(weight.shape) for weight in matrices),
        edges=sum(sum(weight.shape) for weight in matrices),
        vocabulary=int(embedding.shape[0]),
        cached=2 * int(config.num_hidden_layers) * keys * each,
        positions=int(positions) if positions else None,
    )


def _is_table(module: Any) -> bool:
    """Whether a layer looks its rows up."""
    import torch

    return isinstance(module, torch.nn.Embedding)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
