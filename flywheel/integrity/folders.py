"""The folders of a workspace compared with its database: models and leftovers."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flywheel.config import Config
from flywheel.core.assets import ASSET
from flywheel.core.files import digest_model
from flywheel.engines.generator import ENDPOINT, initial_generator, initial_student
from flywheel.errors import FlywheelError
from flywheel.records import Model, ModelKind, Round
from flywheel.store.checks import Finding
from flywheel.store.store import Store
from flywheel.workspace import Workspace

CONVERTED = "converted"
"""Folder in `models/` where engines keep weights in their own format; names start with the digest of the model."""
DIGEST_DIGITS = 12
OWN_MODEL = re.compile(r"(base|joint|member|reward|generator)-.+")
"""Names of folders that flywheel creates in `models/`; all others belong to the user."""
OWN_CONVERSION = re.compile(rf"[0-9a-f]{{{DIGEST_DIGITS}}}-.+")
INCOMPLETE = "left incomplete by an interrupted process"
LEFTOVERS = "leftovers"


def by_folder(models: Sequence[Model]) -> dict[str, Model]:
    """The models that have a folder, by path; if several had the same folder, the newest."""
    return {
        model.path: model
        for model in models
        if not model.path.startswith(ENDPOINT) and (model.kind != ModelKind.JUDGE or Path(model.path).is_absolute())
    }


def recorded_models(workspace: Workspace, store: Store) -> list[Model]:
    """The models in a store; a pruned one whose unchanged folder was put back is no longer pruned."""
    return [
        replace(model, pruned_at=None) if model.pruned_at is not None and _is_intact(workspace, model) else model
        for model in store.models()
    ]


def _is_intact(workspace: Workspace, model: Model) -> bool:
    return workspace.has(model) and digest_model(workspace.folder / model.path) == model.digest


def is_own(workspace: Workspace, path: Path, named: Sequence[Path]) -> bool:
    """Whether flywheel created a folder or file in `models/`, and no configuration names it or anything in it."""
    pattern = OWN_CONVERSION if path.parent == workspace.models / CONVERTED else OWN_MODEL
    resolved = path.resolve()
    return (
        path.parent in (workspace.models, workspace.models / CONVERTED)
        and pattern.fullmatch(path.name) is not None
        and not any(other.is_relative_to(resolved) or resolved.is_relative_to(other) for other in named)
    )


def named_paths(config: Config) -> Iterator[Path]:
    """The existing files and folders that a configuration names, except flywheel's own data."""
    for value in _texts(config.model_dump(mode="json", exclude={"base"})):
        if value and not value.startswith(ASSET):
            with contextlib.suppress(OSError, ValueError):  # a text that cannot be a path
                path = config.path(value)
                if path.exists() and path.resolve() != config.base.resolve():
                    yield path.resolve()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def protected_paths(workspace: Workspace, rounds: Sequence[Round]) -> list[Path]:
    """What the configurations of the workspace and of its unfinished rounds name.

    Raises FlywheelError if the configuration of the workspace is invalid, because then it is unknown what it names.
    """
    configs = [workspace.config()]
    for row in rounds:
        if row.status != "done":
            with contextlib.suppress(ValueError):  # of another flywheel
                configs.append(Config.model_validate(dict(row.config)))
    return [path for config in configs for path in named_paths(config)]


def folder_problems(workspace: Workspace) -> Iterator[Finding]:
    """All problems of models and leftovers; leftovers are skipped while a process is using the workspace."""
    models, rounds = recorded_models(workspace, workspace.store), workspace.store.rounds(controls=True)
    yield from _model_problems(workspace, models)
    if workspace.is_at_work():
        return
    try:
        paths = leftovers(workspace, models, rounds, protected_paths(workspace, rounds))
    except FlywheelError:
        yield Finding(check=LEFTOVERS, message="skipped, because the config is invalid", hint="Correct the config.")
        return
    hint = "Run `flywheel prune` to list all leftovers, and `flywheel prune --yes` to remove them."
    for path, reason in paths.items():
        yield Finding(check=LEFTOVERS, message=f"{workspace.inside(path)}: {reason}", hint=hint)


def _model_problems(workspace: Workspace, models: Sequence[Model]) -> Iterator[Finding]:
    try:
        config = workspace.config()
        configured = {model.digest for model in (initial_generator(config, workspace), initial_student(config, workspace))}
    except FlywheelError:
        configured = set()
    for path, model in by_folder(models).items():
        inside = (workspace.folder / path).is_relative_to(workspace.folder)
        # What is left of a pruned model's folder is a leftover. The config may name the new folder of a moved generator.
        moved = not inside and not workspace.has(model) and model.digest in configured
        if model.pruned_at is not None or moved or _is_intact(workspace, model):
            continue
        problem = f"{path} has changed since it was recorded" if workspace.has(model) else f"the folder {path} is missing"
        hint = _recovery(model) if inside else "Put the original folder back, or set its new path in the config."
        yield Finding(check="models", message=f"{model.model_id}: {problem}", hint=hint)


def _recovery(model: Model) -> str:
    """How to get a missing or changed model back. A part of a reward model is built again once that model is removed, too."""
    restore = "Restore the folder from a backup (`flywheel --workspace OTHER restore DIR`)"
    if model.kind in (ModelKind.BASE, ModelKind.MEMBER, ModelKind.REWARD):
        return f"{restore}, or remove it together with models/reward-* and run `flywheel reward build`."
    return f"{restore}."


def leftovers(
    workspace: Workspace, models: Sequence[Model], rounds: Sequence[Round], protected: Sequence[Path]
) -> dict[Path, str]:
    """What interrupted processes left, trainings that are never resumed, folders of no model: each with the reason.

    Only what flywheel created and nothing that is ``protected``. Only valid while no process is using the workspace.
    """
    # The database's own .tmp is not among them: a reader may be using it.
    reasons = dict.fromkeys(workspace.folder.glob("config.yaml.tmp"), INCOMPLETE)
    for path in sorted([*workspace.models.glob("*"), *workspace.models.glob(f"{CONVERTED}/*")]):
        if is_own(workspace, path, protected) and (reason := _why_unused(path, models, rounds)):
            reasons[path] = reason
    return reasons


def _why_unused(path: Path, models: Sequence[Model], rounds: Sequence[Round]) -> str | None:
    if path.suffix == ".tmp":
        return INCOMPLETE
    if path.parent.name == CONVERTED:
        kept = {model.digest[:DIGEST_DIGITS] for model in models if model.pruned_at is None}
        return None if path.name[:DIGEST_DIGITS] in kept else "converted from a model that is not kept"
    recorded = by_folder(models)
    if path.suffix == ".training":
        return None if _is_resumed(path, recorded, rounds) else "checkpoints that no training resumes from"
    model = recorded.get(f"models/{path.name}")
    if model is None:
        return "not recorded in the database"
    return f"{model.model_id} is recorded as pruned" if model.pruned_at is not None else None


def _is_resumed(path: Path, recorded: Mapping[str, Model], rounds: Sequence[Round]) -> bool:
    """Whether an interrupted training belongs to an unfinished round, or to a reward model that is not built yet."""
    if path.name.startswith("generator-"):
        unfinished = [row for row in rounds if row.generator_out is None]
        return path.stem in {f"generator-{row.round}-{row.fingerprint[:DIGEST_DIGITS]}" for row in unfinished}
    return f"models/{path.stem}" not in recorded
