"""What lies in the models' folder, beside what the database says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flywheel.config import Config
from flywheel.errors import FlywheelError
from flywheel.files import digest_model
from flywheel.generator import ENDPOINT, configured_generator, configured_student
from flywheel.integrity.rebuilding import rebuilding
from flywheel.records import Model, ModelKind, Round
from flywheel.store.checking import Fault
from flywheel.workspace import Workspace

CONVERTED = "converted"
"""Where engines keep weights in their own format; a folder begins with the start of the model's digest."""
DIGEST_START = 12
PRUNE = "`flywheel prune` tells what it takes, `flywheel prune --yes` removes it"
RESTORE = "put the folder back from a backup (`flywheel --workspace OTHER restore BACKUP` unpacks one)"
REBUILT = (ModelKind.BASE, ModelKind.MEMBER, ModelKind.REWARD)
"""What `flywheel reward build` makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A folder or file that nothing needs any more."""

    path: Path
    why: str


def on_disk(models: Sequence[Model]) -> dict[str, Model]:
    """The models that have a folder, by path. Of several that had the same one, the newest is in it."""
    return {
        model.path: model
        for model in models
        if not model.path.startswith(ENDPOINT) and (model.kind != ModelKind.JUDGE or Path(model.path).is_absolute())
    }


def model_faults(workspace: Workspace, models: Sequence[Model]) -> Iterator[Fault]:
    """Models whose folders are gone, or are not what was recorded."""
    configured = _configured_digests(workspace)
    for path, model in on_disk(models).items():
        folder = workspace.folder / path
        own = folder.is_relative_to(workspace.folder)
        remedy = f"{RESTORE}, or {rebuilding(workspace, model, models)}" if model.kind in REBUILT else RESTORE
        remedy = (
            remedy
            if own
            else "put it back, or name where it is now in the config; it lies outside the workspace, so no backup has it"
        )
        if not folder.is_dir():
            # A generator that was moved is found by the next round, where the configuration names it.
            if model.pruned_at is None and (own or model.digest not in configured):
                yield Fault(check="models", found=f"{model.model_id}: no folder {path}", remedy=remedy)
        elif digest_model(folder) != model.digest:
            yield Fault(check="models", found=f"{model.model_id}: {path} is not what was recorded", remedy=remedy)


def _configured_digests(workspace: Workspace) -> set[str]:
    try:
        config = workspace.config()
        return {one.digest for one in (configured_generator(config, workspace), configured_student(config, workspace))}
    except FlywheelError:
        return set()


def input_faults(workspace: Workspace, rounds: Sequence[Round]) -> Iterator[Fault]:
    """Rounds that are not done and cannot go on, because a file that they read is gone."""
    for one in (one for one in rounds if one.status != "done"):
        try:
            config = Config.model_validate(dict(one.config))
        except ValueError:
            yield Fault(
                check="inputs", found=f"{one.round}: its config is none that this flywheel knows",
                remedy="go on with the flywheel that began it, or begin it anew with `flywheel round --restart`",
            )  # fmt: skip
            continue
        for key, value in (("evaluation.tasks", config.evaluation.tasks), ("instructions.seeds", config.instructions.seeds)):
            if not config.path(value).exists():
                yield Fault(
                    check="inputs", found=f"{one.round} reads {key} = {value}, which is gone", remedy="put the file back"
                )


def leftovers(workspace: Workspace, models: Sequence[Model], rounds: Sequence[Round]) -> Iterator[Leftover]:
    """What killed writers left, trainings that nobody goes on with, folders and conversions of no model.

    Meaningful only while nobody is at work in the workspace: a writer has such folders, too.
    """
    # Not the database's own .tmp: a reader may be at work in it.
    for path in sorted([*workspace.folder.glob("config.yaml.tmp"), *workspace.folder.glob("flywheel.schema-*.tmp")]):
        yield Leftover(path=path, why="not written to its end")
    recorded = on_disk(models)
    for path in sorted(workspace.models.iterdir()) if workspace.models.is_dir() else ():
        name = workspace.inside(path)
        if path.suffix == ".tmp":
            yield Leftover(path=path, why="not written to its end")
        elif path.suffix == ".training":
            if not _goes_on(path, recorded, rounds):
                yield Leftover(path=path, why="a training that nothing goes on with")
        elif path.name == CONVERTED:
            yield from _conversions(path, models)
        elif name not in recorded:
            yield Leftover(path=path, why="a folder that no model has")
        elif recorded[name].pruned_at is not None:
            yield Leftover(path=path, why=f"{recorded[name].model_id} is recorded as pruned")


def _goes_on(path: Path, recorded: Mapping[str, Model], rounds: Sequence[Round]) -> bool:
    """Whether a stopped training is that of an unfinished round, or of a reward model that is still to be built."""
    if path.name.startswith("generator-"):
        return any(
            path.name == f"generator-{one.round}-{one.fingerprint[:DIGEST_START]}.training" and one.generator_out is None
            for one in rounds
        )
    return f"models/{path.stem}" not in recorded


def _conversions(folder: Path, models: Sequence[Model]) -> Iterator[Leftover]:
    there = {model.digest[:DIGEST_START] for model in models if model.pruned_at is None}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".tmp":
            yield Leftover(path=path, why="not written to its end")
        elif path.name[:DIGEST_START] not in there:
            yield Leftover(path=path, why="a conversion of no model that is here")


def folder_faults(workspace: Workspace) -> Iterator[Fault]:
    """All that is amiss on disk."""
    models, rounds = workspace.store.all_models(), workspace.store.rounds(controls=True)
    yield from model_faults(workspace, models)
    yield from input_faults(workspace, rounds)
    if not workspace.is_at_work():
        for one in leftovers(workspace, models, rounds):
            yield Fault(check="leftovers", found=f"{workspace.inside(one.path)}: {one.why}", remedy=PRUNE)
