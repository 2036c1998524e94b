"""The base of all members and of the merge: the first layers of a model, with one head.

One head, attached once: heads initialised apart are near-orthogonal, and a TIES base without a head
cannot be merged with members that have one.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PretrainedConfig

from flywheel.core.files import publish
from flywheel.core.model_folders import settings_of
from flywheel.errors import ModelError
from flywheel.records import Sliced
from flywheel.reward.network import Network

PAD = "<|pad|>"


def build_base(source: str, folder: Path, *, layers: int, seed: int) -> Sliced:
    """Save the first layers of a model with one head and a pad token of its own.

    ``source`` is the folder of a causal or masked language model, or of a reward model with one label. Raises ModelError where
    the result does not reload whole, with that many layers and as many parameters as it must have.
    """
    whole = settings_of(Path(source))
    layers_before = int(whole.num_hidden_layers)
    if layers > layers_before:
        hint = f"Set `reward.layers` (--layers in `flywheel reward slice`) to at most {layers_before}."
        raise ModelError(f"cannot keep {layers} layers of {source}, which has {layers_before}", hint)
    if whole.num_labels != 1 and any("SequenceClassification" in name for name in whole.architectures or ()):
        message = f"{source} is a classifier with {whole.num_labels} labels"
        raise ModelError(message, "Use a language model, or a reward model with one label.")
    config = shortened(whole, layers)
    with publish(folder) as unfinished:
        vocabulary = _save_with_head(source, config, unfinished, seed=seed)
        parameters = _parameters(config, vocabulary)
        _check_saved(unfinished, layers=layers, expected=parameters)
    return Sliced(
        layers_before=layers_before, layers=layers, parameters_before=_parameters(whole, vocabulary), parameters=parameters
    )


def _save_with_head(source: str, config: PretrainedConfig, folder: Path, *, seed: int) -> int:
    """Load the layers of ``config`` with a head and a pad token of its own, and save them; returns the vocabulary's size."""
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    config.num_labels = 1
    torch.manual_seed(seed)
    model, report = AutoModelForSequenceClassification.from_pretrained(
        source, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True, trust_remote_code=False
    )
    # A layer that is missing would be random; only the head may be.
    inner = (name for name in report["missing_keys"] if name.startswith(f"{model.base_model_prefix}."))
    missing = sorted(name for name in inner if "pooler" not in name)
    if wrong := [*missing, *report.get("mismatched_keys", ())]:
        message = f"the weights of {source} do not match its config.json: {wrong[0]} is missing or has another shape"
        raise ModelError(message, "Download the model again, or export it again.")
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        tokenizer.add_special_tokens({"pad_token": PAD})
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    tokenizer.padding_side = "right"
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.dtype = "float32"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def shortened(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    """The configuration of a model's first layers."""
    values: dict[str, Any] = config.to_dict()
    for name in ("layer_types", "attention_layers"):
        if isinstance(values.get(name), list) and len(values[name]) == int(config.num_hidden_layers):
            values[name] = values[name][:layers]
    values[config.attribute_map.get("num_hidden_layers", "num_hidden_layers")] = layers
    if "max_window_layers" in values:
        values["max_window_layers"] = min(int(values["max_window_layers"]), layers)
    return type(config).from_dict(values)


def _parameters(config: PretrainedConfig, vocabulary: int) -> int:
    """Parameters of a reward model of this configuration, counted without making its weights."""
    config = type(config).from_dict(config.to_dict() | {"num_labels": 1})
    config.vocab_size = max(int(config.vocab_size), vocabulary)
    if config.pad_token_id is not None and config.pad_token_id >= config.vocab_size:
        config.pad_token_id = None
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())


def _check_saved(folder: Path, *, layers: int, expected: int) -> None:
    """Raise ModelError unless the base reloads whole: layers, parameters, no random weight, a finite score."""
    network = Network(folder, device="cpu", dtype="float32", most_labels=1)
    found, parameters = network.model.config.num_hidden_layers, sum(values.numel() for values in network.model.parameters())
    if (found, parameters) != (layers, expected):
        message = f"the sliced base reloads with {found} of {layers} layers and {parameters:,} of {expected:,} parameters"
        raise ModelError(message, "Use another base: transformers does not reload this one as it was saved.")
    (score,) = network.score([[1, 2, 3]])
    if not math.isfinite(score):
        raise ModelError(f"the sliced base returned the score {score}", "Use another base: the weights of this one are broken.")
