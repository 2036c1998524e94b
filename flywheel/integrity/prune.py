"""`flywheel prune`: list what is no longer needed, and remove it.

A model is recorded as pruned before its folder is removed, so a prune that is killed leaves a folder too many, never one
too few.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from flywheel.core.files import remove
from flywheel.errors import FlywheelError, StoreError
from flywheel.integrity.folders import by_folder, is_own, leftovers, protected_paths, recorded_models
from flywheel.integrity.needed import kept_rounds, needed, removable
from flywheel.records import Model, ModelKind, Round
from flywheel.reward.recipe import key_of, recipe_of
from flywheel.store.reading import query
from flywheel.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A folder or file to remove."""

    path: str
    size: int
    """Bytes."""
    reason: str
    model_id: str | None = None
    """The model in the folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a prune removes, and the rounds whose generators it keeps."""

    removals: Sequence[Removal]
    kept: Mapping[str, str]
    """Rounds, and why they are kept."""

    @property
    def size(self) -> int:
        """Bytes in total."""
        return sum(removal.size for removal in self.removals)


def plan_prune(workspace: Workspace, *, keep: Sequence[str] = ()) -> Plan:
    """What can be removed; nothing is changed.

    Raises StoreError if a round to keep does not exist or its generator is pruned, and ConfigError if the configuration is
    invalid, because what it names must stay.
    """
    models, rounds = recorded_models(workspace, workspace.store), workspace.store.rounds(controls=True)
    pruned = {model.model_id for model in models if model.pruned_at is not None}
    available = [row.round for row in rounds if row.generator_out not in pruned]
    if unavailable := [name for name in keep if name not in available]:
        hint = f"Rounds with a generator: {', '.join(available) or 'none yet'}."
        raise StoreError(f"round {unavailable[0]!r} has no generator to keep", hint)
    best = next((name for (name,) in query(workspace.store.path, "SELECT round FROM best_round").rows), None)
    kept = kept_rounds(rounds, best=best, requested=keep)
    return Plan(removals=list(_removals(workspace, models, rounds, set(kept))), kept=kept)


def prune(workspace: Workspace, plan: Plan) -> None:
    """Remove what a plan lists."""
    # Folders of no model first: if the disk is full, that makes space for the rows.
    _remove(workspace, [removal for removal in plan.removals if not removal.model_id])
    models = {removal.model_id: removal for removal in plan.removals if removal.model_id}
    if models:
        workspace.store.mark_pruned(list(models))
    _remove(workspace, models.values())


def _remove(workspace: Workspace, removals: Iterable[Removal]) -> None:
    for path in (workspace.folder / removal.path for removal in removals):
        try:
            remove(path)
        except OSError as error:
            raise StoreError(f"cannot remove {path}: {error.strerror}", "Fix the permissions, then prune again.") from None


def _removals(workspace: Workspace, models: Sequence[Model], rounds: Sequence[Round], kept: set[str]) -> Iterator[Removal]:
    protected = protected_paths(workspace, rounds)
    reasons = removable(models, rounds, needed(models, rounds, kept, configured=_configured(workspace, models)))
    # A folder that flywheel did not create belongs to the user.
    removed = {
        path: model
        for path, model in by_folder(models).items()
        if model.model_id in reasons and is_own(workspace, workspace.folder / path, protected)
    }
    for path, model in removed.items():
        size = size_of(workspace.folder / path)
        yield Removal(path=path, size=size, reason=reasons[model.model_id], model_id=model.model_id)
    now = datetime.now(UTC)
    after = [replace(model, pruned_at=now) if model.path in removed else model for model in models]
    for file, reason in leftovers(workspace, after, rounds, protected).items():
        if workspace.inside(file) not in removed:
            yield Removal(path=workspace.inside(file), size=size_of(file), reason=reason)


def _configured(workspace: Workspace, models: Sequence[Model]) -> str | None:
    """The reward model of the workspace's configuration, if it is built and its data can be read."""
    rewards = [model for model in models if model.kind == ModelKind.REWARD]
    try:
        key = key_of(recipe_of(workspace.config())) if rewards else None
    except (FlywheelError, OSError):
        return None
    return next((model.model_id for model in reversed(rewards) if model.recipe.get("key") == key), None)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())
