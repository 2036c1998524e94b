"""Merging reward models: mergekit, called with the YAML it documents; the YAML is kept beside the result."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.errors import StrictDataclassError
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import LoaderCache
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors import safe_open
from transformers import AutoTokenizer

from flywheel.config import MergeConfig
from flywheel.core.faults import machine_fault
from flywheel.core.files import publish
from flywheel.core.functions import reason_of
from flywheel.core.model_folders import check_model, settings_of
from flywheel.errors import ConfigError, ModelError
from flywheel.reward.network import check_head

RECIPE = "mergekit.yaml"
WITH_BASE = ("ties", "dare_ties", "della")
"""Methods that merge what members changed in the base; the others merge the members themselves."""
ONE_BASE = "Merge only models that were trained from the same base."


def merge_folders(base: Path, members: Mapping[Path, float], merge: MergeConfig, folder: Path, *, seed: int) -> str:
    """Merge members with their weights on their base, outside of a workspace; returns mergekit's YAML.

    Raises ModelError unless all are reward models from this base.
    """
    if len(members) < 2:
        raise ConfigError(f"a merge needs at least two members, got {len(members)}", "Add another FOLDER=WEIGHT.")
    check_mergeable([base, *members])
    with publish(folder) as unfinished:
        merge_models(base.resolve(), {path.resolve(): weight for path, weight in members.items()}, merge, unfinished, seed=seed)
    return (folder / RECIPE).read_text(encoding="utf-8")


def merge_models(base: Path, members: Mapping[Path, float], merge: MergeConfig, folder: Path, *, seed: int) -> None:
    """Merge members into a folder that has the tokenizer of their base; raises ModelError with mergekit's reason."""
    recipe = _recipe(base, members, merge)
    # mergekit keeps every model it has read, by path, for the life of the process: a folder that was rebuilt
    # would be merged with its old weights.
    LoaderCache().loaders.clear()
    options = MergeOptions(quiet=True, write_model_card=False, copy_tokenizer=False, lazy_unpickle=True, random_seed=seed)
    try:
        run_merge(MergeConfiguration.model_validate(recipe), str(folder), options)
    except (RuntimeError, ValueError, KeyError, OSError, StrictDataclassError) as error:
        if machine_fault(error):
            raise
        reason = " ".join(str(error).split())
        raise ModelError(f"mergekit could not run {merge.method}: {reason}", "Try another merge method.") from error
    (folder / RECIPE).write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    # What one kind of member was trained with: mergekit takes the config of any of them, by Python's hash seed.
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("problem_type", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    _check_finite(folder, "the merge", "Lower the weights of the members.")
    # mergekit's own copy loses the pad token of some tokenizers.
    AutoTokenizer.from_pretrained(base, trust_remote_code=False).save_pretrained(folder)


def _recipe(base: Path, members: Mapping[Path, float], merge: MergeConfig) -> dict[str, Any]:
    """mergekit's configuration for members with their weights on a shared base."""
    if merge.method == "slerp":
        if len(members) != 2:
            raise ModelError(f"slerp merges two models, got {len(members)}", "Use ties or linear.")
        first, second = members
        return {
            "merge_method": "slerp",
            "base_model": str(first),
            "models": [{"model": str(path)} for path in members],
            "parameters": {"t": members[second] / sum(members.values())},
            "dtype": merge.dtype,
        }
    settings = {"density": merge.density} if merge.method in WITH_BASE else {}
    settings |= {"epsilon": merge.epsilon} if merge.method == "della" else {}
    recipe: dict[str, Any] = {
        "merge_method": merge.method,
        "models": [{"model": str(path), "parameters": {"weight": weight} | settings} for path, weight in members.items()],
        "parameters": {"normalize": merge.normalize},
        "dtype": merge.dtype,
    }
    return recipe | ({"base_model": str(base)} if merge.method in WITH_BASE else {})


def check_mergeable(folders: Sequence[Path]) -> None:
    """Raise ModelError unless these are reward models of one shape, with one vocabulary and finite weights.

    The first is the base that the others were trained from.
    """
    for folder in folders:
        check_model(folder)
        check_head(folder)
    base, *members = folders
    config, shapes, vocabulary = settings_of(base), _shapes(base), _vocabulary(base)
    for folder in members:
        other = settings_of(folder)
        for name in ("model_type", "num_hidden_layers", "hidden_size"):
            value, expected = getattr(other, name), getattr(config, name)
            if value != expected:
                raise ModelError(f"{folder} has {name} {value} and {base} has {expected}", ONE_BASE)
        if _vocabulary(folder) != vocabulary:
            raise ModelError(f"{folder} and {base} have different tokenizers", ONE_BASE)
        if different := sorted({name for name, _ in _shapes(folder).items() ^ shapes.items()}):
            raise ModelError(f"tensor {different[0]} is in only one of {folder} and {base}, or differs in shape", ONE_BASE)
    for folder in folders:
        _check_finite(folder, str(folder), "Train the model again with a lower learning rate.")


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return shapes


def _vocabulary(folder: Path) -> dict[str, int]:
    try:
        return dict(AutoTokenizer.from_pretrained(folder, trust_remote_code=False).get_vocab())
    except (OSError, ValueError) as error:
        message = f"cannot read the tokenizer of {folder}: {reason_of(error)[:120]}"
        raise ModelError(message, "Save the tokenizer in the model's folder.") from None


def _check_finite(folder: Path, label: str, hint: str) -> None:
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                if not bool(file.get_tensor(name).isfinite().all()):
                    raise ModelError(f"{label} has NaN or infinite values in {name}", hint)
