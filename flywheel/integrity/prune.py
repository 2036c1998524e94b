"""`flywheel prune`: what nothing needs any more, and its removal.

A model is marked as pruned before its folder goes, so that a killed prune leaves a folder too many and never a model too few.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flywheel.errors import FlywheelError, StoreError
from flywheel.integrity.folders import (
    CONVERTED,
    DIGEST_START,
    Leftover,
    is_own,
    leftovers,
    named_by,
    on_disk,
    with_those_put_back,
)
from flywheel.integrity.needed import freeable, kept_rounds, needed
from flywheel.records import Model, ModelKind, Round
from flywheel.reward.recipe import key_of, recipe_of
from flywheel.store.checking import best_round
from flywheel.store.migrating import kept_copies
from flywheel.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """A folder or file that goes."""

    path: str
    size: int
    """Bytes."""
    why: str
    model_id: str | None = None
    """The model that is in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a prune takes, and whose generators it leaves."""

    freed: Sequence[Freed]
    kept: Mapping[str, str]
    """Rounds, and why they are kept."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(one.size for one in self.freed)


def plan_prune(workspace: Workspace, *, keep: Sequence[str] = ()) -> Plan:
    """What could go; nothing is changed.

    Raises StoreError for a round to keep that is not there or is pruned already, and ConfigError for a configuration that
    cannot be read: what it names has to stay.
    """
    store = workspace.store
    if not store.path.exists():
        raise StoreError(f"no database at {store.path}; there is nothing to prune, name the workspace with --workspace")
    store.migrate()
    models, rounds = with_those_put_back(workspace, store.all_models()), store.rounds(controls=True)
    pruned = {one.model_id: one.pruned_at for one in models if one.pruned_at is not None}
    names = [one.round for one in rounds]
    for name in keep:
        if name not in names:
            raise StoreError(f"no round {name!r} to keep; there are {', '.join(names) or 'none yet'}")
        generator = next(one.generator_out for one in rounds if one.round == name)
        if generator in pruned:
            raise StoreError(
                f"cannot keep {name}: its generator {generator} was removed by `flywheel prune` on "
                f"{pruned[generator]:%Y-%m-%d}; put it back from a backup first, or leave --keep {name} out"
            )
    kept = kept_rounds(rounds, best=best_round(store.path), asked=keep)
    return Plan(freed=list(_freed(workspace, models, rounds, set(kept))), kept=kept)


def prune(workspace: Workspace, plan: Plan) -> None:
    """Remove what a plan names."""
    # What no row is about goes first: where the disk is full, that makes room for the rows.
    _remove(workspace, [one for one in plan.freed if one.model_id is None])
    if marked := [one.model_id for one in plan.freed if one.model_id is not None]:
        workspace.store.mark_pruned(marked)
    _remove(workspace, [one for one in plan.freed if one.model_id is not None])


def _remove(workspace: Workspace, freed: Sequence[Freed]) -> None:
    for one in freed:
        path = workspace.folder / one.path
        try:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"cannot remove {path}: {error.strerror}; mend the rights, then prune again") from None


def _freed(workspace: Workspace, models: Sequence[Model], rounds: Sequence[Round], kept: set[str]) -> Iterator[Freed]:
    named = named_by(workspace, rounds)
    ids = needed(models, rounds, kept, configured=_configured(workspace, models))
    why, going = freeable(models, rounds, ids), set[str]()
    for path, model in on_disk(models).items():
        folder = workspace.folder / path
        # Only what flywheel made: the folder of a user's own model is theirs.
        if model.model_id in why and is_own(workspace, folder, named):
            going.add(model.digest[:DIGEST_START])
            yield Freed(path=path, size=size_of(folder), why=why[model.model_id], model_id=model.model_id)
    converted = workspace.models / CONVERTED
    staying = {model.digest[:DIGEST_START] for model in models if model.model_id in ids and model.kind == ModelKind.GENERATOR}
    others = [
        Leftover(path=one, why="a conversion of a generator that goes")
        for one in (sorted(converted.iterdir()) if converted.is_dir() else ())
        if one.name[:DIGEST_START] in going - staying and is_own(workspace, one, named)
    ]
    others += leftovers(workspace, models, rounds, named)
    others += [Leftover(path=one, why="the database before it was upgraded") for one in kept_copies(workspace.store.path)]
    for other in others:
        yield Freed(path=workspace.inside(other.path), size=size_of(other.path), why=other.why)


def _configured(workspace: Workspace, models: Sequence[Model]) -> str | None:
    """The reward model of the workspace's configuration, where it is built and its data can be read."""
    rewards = [model for model in models if model.kind == ModelKind.REWARD]
    if not rewards:
        return None
    try:
        key = key_of(recipe_of(workspace.config()))
    except (FlywheelError, OSError):
        return None
    return next((model.model_id for model in reversed(rewards) if model.recipe.get("key") == key), None)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_dir() and not path.is_symlink():
        return sum(one.stat().st_size for one in path.rglob("*") if one.is_file() and not one.is_symlink())
    return path.stat().st_size if path.exists() else 0
