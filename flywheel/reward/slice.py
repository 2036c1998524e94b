"""The base of all members and of the merge: the first layers of a model, with one head.

One head, attached once: heads initialised apart are near-orthogonal, and a TIES base without a head
cannot be merged with members that have one.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from flywheel.core.files import publish
from flywheel.core.model_folders import settings_of
from flywheel.errors import FlywheelError, ModelError
from flywheel.records import Sliced
from flywheel.reward.mergekit import RECIPE, run_mergekit

PAD = "<|pad|>"


def build_base(source: str, folder: Path, *, layers: int, seed: int) -> Sliced:
    """Save the first layers of a model with one head and a pad token of its own.

    ``source`` is the folder of a causal or masked language model, or of a reward model with one label. Raises
    ModelError where no way of slicing gives a model that reloads whole, with that many layers and as many
    parameters as it must have.
    """
    whole = settings_of(Path(source))
    have = int(whole.num_hidden_layers)
    if layers > have:
        raise ModelError(f"reward.layers is {layers}, but {source} has {have}; ask for at most {have}")
    _refuse_other_heads(whole, source)
    with publish(folder) as unfinished:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        try:
            recipe = _by_mergekit(source, unfinished, tokenizer, layers=layers, seed=seed)
            by, because = "mergekit", None
        except (FlywheelError, ValueError, RuntimeError, OSError, KeyError, AttributeError) as error:
            _empty(unfinished)
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            _attach_head(source, unfinished, tokenizer, config=shortened(whole, layers), layers=layers, seed=seed)
            by, because, recipe = "torch", " ".join(str(error).split()).replace(str(unfinished), "the result"), None
        if recipe is not None:
            (unfinished / RECIPE).write_text(recipe, encoding="utf-8")
        parameters = _parameters(shortened(whole, layers), len(tokenizer))
    return Sliced(
        layers_before=have, layers=layers, parameters_before=_parameters(whole, len(tokenizer)), parameters=parameters,
        by=by, because=because,
    )  # fmt: skip


def _by_mergekit(source: str, folder: Path, tokenizer: PreTrainedTokenizerBase, *, layers: int, seed: int) -> str:
    """Slice with mergekit's passthrough; returns the YAML it ran."""
    sliced = folder / "sliced"
    run_mergekit(
        {
            "merge_method": "passthrough",
            "slices": [{"sources": [{"model": source, "layer_range": [0, layers]}]}],
            "dtype": "float32",
        },
        sliced,
    )
    _attach_head(
        str(sliced),
        folder,
        tokenizer,
        config=AutoConfig.from_pretrained(sliced, trust_remote_code=False),
        layers=layers,
        seed=seed,
    )
    recipe = (sliced / RECIPE).read_text(encoding="utf-8")
    shutil.rmtree(sliced)
    return recipe


def _attach_head(
    source: str, folder: Path, tokenizer: PreTrainedTokenizerBase, *, config: PretrainedConfig, layers: int, seed: int
) -> None:
    """Load with a head, give it a pad token of its own, save, and check what was saved."""
    config.num_labels = 1
    torch.manual_seed(seed)
    model, report = AutoModelForSequenceClassification.from_pretrained(
        source, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True, trust_remote_code=False
    )
    _refuse_missing(model, report, source)
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        tokenizer.add_special_tokens({"pad_token": PAD})
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    tokenizer.padding_side = "right"
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.dtype = "float32"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _check_saved(folder, layers=layers, expected=_parameters(config, len(tokenizer)))


def shortened(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    """The configuration of a model's first layers."""
    values: dict[str, Any] = config.to_dict()
    have = int(config.num_hidden_layers)
    for name, value in values.items():
        if isinstance(value, list) and len(value) == have and name in ("layer_types", "attention_layers"):
            values[name] = value[:layers]
    values[config.attribute_map.get("num_hidden_layers", "num_hidden_layers")] = layers
    if "max_window_layers" in values:
        values["max_window_layers"] = min(int(values["max_window_layers"]), layers)
    return type(config).from_dict(values)


def _refuse_other_heads(config: PretrainedConfig, source: str) -> None:
    classifier = any("SequenceClassification" in name for name in config.architectures or ())
    if classifier and config.num_labels != 1:
        raise ModelError(
            f"{source} has a head of {config.num_labels} labels, a reward model has one; name a language model as its base"
        )


def _refuse_missing(model: PreTrainedModel, report: dict[str, Any], source: str) -> None:
    """Raise where more than the head had to be made up: a layer that was not there would be random."""
    prefix = f"{model.base_model_prefix}."
    missing = sorted(name for name in report["missing_keys"] if name.startswith(prefix) and "pooler" not in name)
    if missing or report.get("mismatched_keys"):
        what = missing[0] if missing else next(iter(report["mismatched_keys"]))
        raise ModelError(f"{source} lacks weights that its configuration asks for ({what}); save the model anew")


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
    """Raise ModelError unless the base reloads whole: layers, parameters, no weight made up, a finite score."""
    model, report = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, trust_remote_code=False
    )
    found = sum(parameter.numel() for parameter in model.parameters())
    missing = sorted(report["missing_keys"])
    if model.config.num_hidden_layers != layers or missing or found != expected:
        raise ModelError(
            f"the base at {folder} does not reload as it must: {model.config.num_hidden_layers} of {layers} layers, "
            f"{found} of {expected} parameters, missing {missing[:3]}"
        )
    with torch.inference_mode():
        score = model.eval()(input_ids=torch.tensor([[1, 2, 3]])).logits
    if score.shape != (1, 1) or not bool(torch.isfinite(score).all()):
        raise ModelError(f"the base at {folder} does not score: {score.tolist()}; its weights are broken")


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
