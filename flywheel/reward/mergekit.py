"""mergekit, called with the YAML it documents; the YAML is kept beside the result."""

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
from transformers import AutoConfig, AutoTokenizer

from flywheel.config import MergeConfig
from flywheel.core.model_folders import check_model
from flywheel.errors import ModelError
from flywheel.reward.model import check_head

RECIPE = "mergekit.yaml"
WITH_BASE = ("ties", "dare_ties", "della")
"""Methods that merge what members changed in the base; the others merge the members themselves."""
RANDOM = ("dare_ties", "della")
"""Methods that drop changes at random."""


def run_mergekit(recipe: Mapping[str, Any], folder: Path, *, seed: int = 0) -> None:
    """Run a merge into a folder; raises ModelError with mergekit's own words."""
    text = yaml.safe_dump(dict(recipe), sort_keys=False)
    # mergekit keeps every model it has read, by path, for the life of the process: a folder built anew
    # would be merged with its old weights.
    LoaderCache().loaders.clear()
    try:
        run_merge(
            MergeConfiguration.model_validate(recipe),
            str(folder),
            MergeOptions(quiet=True, write_model_card=False, copy_tokenizer=False, lazy_unpickle=True, random_seed=seed),
        )
    except (RuntimeError, ValueError, KeyError, OSError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"mergekit could not run {recipe['merge_method']}: {reason}") from error
    (folder / RECIPE).write_text(text, encoding="utf-8")


def merge_recipe(base: Path, members: Mapping[Path, float], merge: MergeConfig) -> dict[str, Any]:
    """mergekit's configuration for members with their weights on a shared base."""
    paths, weights = list(members), list(members.values())
    if merge.method == "slerp":
        if len(members) != 2:
            raise ModelError(f"slerp merges two models, got {len(members)}; take ties or linear")
        return {
            "merge_method": "slerp",
            "base_model": str(paths[0]),
            "models": [{"model": str(path)} for path in paths],
            "parameters": {"t": weights[1] / sum(weights)},
            "dtype": merge.dtype,
        }
    of_each = {"density": merge.density} if merge.method in WITH_BASE else {}
    of_each |= {"epsilon": merge.epsilon} if merge.method == "della" else {}
    recipe: dict[str, Any] = {
        "merge_method": merge.method,
        "models": [
            {"model": str(path), "parameters": {"weight": weight} | of_each}
            for path, weight in zip(paths, weights, strict=True)
        ],
        "parameters": {"normalize": merge.normalize},
        "dtype": merge.dtype,
    }
    return recipe | ({"base_model": str(base)} if merge.method in WITH_BASE else {})


def merge_models(base: Path, members: Mapping[Path, float], merge: MergeConfig, folder: Path, *, seed: int) -> None:
    """Merge members into a folder that has the tokenizer of their base."""
    run_mergekit(merge_recipe(base, members, merge), folder, seed=seed)
    _forget_the_loss(folder / "config.json")
    _check_finite(folder, "the weights of the merge are too large")
    # mergekit's own copy loses the pad token of some tokenizers.
    AutoTokenizer.from_pretrained(base, trust_remote_code=False).save_pretrained(folder)


def _forget_the_loss(path: Path) -> None:
    """Take out what one kind of member was trained with: mergekit takes the config of any of them, by Python's hash seed."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("problem_type", None)
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def check_mergeable(folders: Sequence[Path]) -> None:
    """Raise ModelError unless these are reward models of one shape, with one vocabulary and finite weights.

    The first is the base that the others were trained from.
    """
    first = folders[0]
    for folder in folders:
        check_model(folder)
        check_head(folder)
    wanted, shapes, tokens = AutoConfig.from_pretrained(first, trust_remote_code=False), _shapes(first), _tokens(first)
    for folder in folders[1:]:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        for name in ("model_type", "num_hidden_layers", "hidden_size"):
            if getattr(config, name) != getattr(wanted, name):
                raise ModelError(
                    f"{folder} has {name} {getattr(config, name)} and {first} has {getattr(wanted, name)}; "
                    "only models trained from the same base can be merged"
                )
        if _tokens(folder) != tokens:
            raise ModelError(f"{folder} and {first} have different tokenizers; only models trained from one base can be merged")
        if different := sorted({name for name, shape in (_shapes(folder).items() ^ shapes.items())}):
            raise ModelError(f"{folder} and {first} differ in {different[0]}; only models trained from one base can be merged")
    for folder in folders:
        _check_finite(folder, "train the model anew, with a lower rate")


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return shapes


def _tokens(folder: Path) -> dict[str, int]:
    try:
        return dict(AutoTokenizer.from_pretrained(folder, trust_remote_code=False).get_vocab())
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelError(f"{folder} has no tokenizer that can be read ({reason}); save it beside the model") from None


def _check_finite(folder: Path, remedy: str) -> None:
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                if not bool(file.get_tensor(name).isfinite().all()):
                    raise ModelError(f"{path} has NaN or infinite numbers in {name}; {remedy}")
