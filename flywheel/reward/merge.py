"""Merge reward models that lie in folders, for use outside of a workspace."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flywheel.config import MergeConfig
from flywheel.core.files import publish
from flywheel.errors import ConfigError
from flywheel.reward.mergekit import RECIPE, check_mergeable, merge_models


def merge_folders(base: Path, members: Mapping[Path, float], merge: MergeConfig, folder: Path, *, seed: int) -> str:
    """Merge members with their weights on their base; returns mergekit's YAML.

    Raises ModelError where they were not made from one base, or one of them is no reward model.
    """
    if len(members) < 2:
        raise ConfigError(f"a merge needs two members or more, got {len(members)}")
    check_mergeable([base, *members])
    with publish(folder) as unfinished:
        merge_models(base.resolve(), {path.resolve(): weight for path, weight in members.items()}, merge, unfinished, seed=seed)
    return (folder / RECIPE).read_text(encoding="utf-8")
