"""mergekit, called with the YAML it documents; the YAML is kept beside the result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import LoaderCache
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from transformers import AutoTokenizer

from flywheel.config import MergeConfig
from flywheel.errors import ModelError

RECIPE = "mergekit.yaml"


def run_mergekit(recipe: Mapping[str, Any], folder: Path) -> None:
    """Run a merge into a folder; raises ModelError with mergekit's own words."""
    text = yaml.safe_dump(dict(recipe), sort_keys=False)
    # mergekit keeps every model it has read, by path, for the life of the process: a folder built anew
    # would be merged with its old weights.
    LoaderCache().loaders.clear()
    try:
        run_merge(
            MergeConfiguration.model_validate(recipe),
            str(folder),
            MergeOptions(quiet=True, write_model_card=False, copy_tokenizer=False, lazy_unpickle=True),
        )
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"mergekit could not run {recipe['merge_method']}: {reason}") from error
    (folder / RECIPE).write_text(text, encoding="utf-8")


def merge_recipe(base: Path, members: Mapping[Path, float], merge: MergeConfig) -> dict[str, Any]:
    """mergekit's configuration for members with their weights on a shared base."""
    recipe: dict[str, Any] = {
        "merge_method": merge.method,
        "models": [
            {"model": str(path), "parameters": {"weight": weight} | _density(merge)} for path, weight in members.items()
        ],
        "parameters": {"normalize": merge.normalize},
        "dtype": "float32",
    }
    return recipe | ({"base_model": str(base)} if merge.method == "ties" else {})


def _density(merge: MergeConfig) -> dict[str, float]:
    return {"density": merge.density} if merge.method == "ties" else {}


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Give a merge the tokenizer of its base; mergekit's own copy loses the pad token of some tokenizers."""
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
