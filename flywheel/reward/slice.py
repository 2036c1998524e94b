"""The base of all members and of the merge: the first layers of a causal model, with one head.

One head, attached once: heads initialised apart are near-orthogonal, and a TIES base without a head
cannot be merged with members that have one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from flywheel.errors import ModelError
from flywheel.files import publish
from flywheel.reward.mergekit import RECIPE, run_mergekit

PAD = "<|pad|>"


def build_base(source: str, folder: Path, *, layers: int, seed: int) -> int:
    """Save the sliced base with its head; returns its number of parameters.

    ``source`` is a folder or hub id of a causal model. Raises ModelError where the result does not
    reload with that many layers.
    """
    have = _layers(source)
    if layers > have:
        raise ModelError(f"reward.layers is {layers}, but {source} has {have}; ask for at most {have}")
    with publish(folder) as unfinished:
        sliced = unfinished / "sliced"
        run_mergekit(
            {
                "merge_method": "passthrough",
                "slices": [{"sources": [{"model": source, "layer_range": [0, layers]}]}],
                "dtype": "float32",
            },
            sliced,
        )
        if (found := _layers(str(sliced))) != layers:
            raise ModelError(f"slicing {source} to {layers} layers gave a model of {found}; its architecture is not supported")
        tokenizer = AutoTokenizer.from_pretrained(source)
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(sliced, num_labels=1, dtype=torch.float32)
        if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
            tokenizer.add_special_tokens({"pad_token": PAD})
            model.resize_token_embeddings(len(tokenizer))
        model.config.pad_token_id = tokenizer.pad_token_id
        parameters = sum(parameter.numel() for parameter in model.parameters())
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        _check_reload(unfinished, parameters)
        (sliced / RECIPE).rename(unfinished / RECIPE)
        shutil.rmtree(sliced)
    return int(parameters)


def _layers(source: str) -> int:
    return int(AutoConfig.from_pretrained(source).num_hidden_layers)


def _check_reload(folder: Path, parameters: int) -> None:
    model, report = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    missing = sorted(report["missing_keys"])
    found = sum(parameter.numel() for parameter in model.parameters())
    if missing or found != parameters:
        raise ModelError(f"the sliced base at {folder} does not reload: {found} of {parameters} parameters, missing {missing}")
