"""What lies in the models' folder, beside what the database says of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flywheel.config import Config
from flywheel.core.files import digest_model
from flywheel.engines.generator import ENDPOINT, configured_generator, configured_student
from flywheel.errors import FlywheelError
from flywheel.integrity.named import named_paths
from flywheel.integrity.rebuilding import rebuilding
from flywheel.records import Model, ModelKind, Round
from flywheel.store.checking import Fault
from flywheel.workspace import RESTORE, Workspace

CONVERTED = "converted"
"""Where engines keep weights in their own format; a folder begins with the start of the model's digest."""
DIGEST_START = 12
OWN = re.compile(r"(base|joint|member|reward|generator)-.+")
"""How flywheel names what it makes in `models/`; whatever has another name there is somebody's."""
OWN_CONVERSION = re.compile(rf"[0-9a-f]{{{DIGEST_START}}}-.+")
PRUNE = "`flywheel prune` tells what it takes, `flywheel prune --yes` removes it"
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


def with_those_put_back(workspace: Workspace, models: Sequence[Model]) -> list[Model]:
    """The models, where a pruned one whose folder is there again, whole, is no longer a pruned one."""
    return [replace(model, pruned_at=None) if _is_back(workspace, model) else model for model in models]


def _is_back(workspace: Workspace, model: Model) -> bool:
    folder = workspace.folder / model.path
    return model.pruned_at is not None and folder.is_dir() and digest_model(folder) == model.digest


def is_own(workspace: Workspace, path: Path, named: Sequence[Path]) -> bool:
    """Whether flywheel made what lies in `models/`, and no configuration names it or a file in it."""
    pattern = OWN_CONVERSION if path.parent == workspace.models / CONVERTED else OWN
    place = path.resolve()
    return (
        path.parent in (workspace.models, workspace.models / CONVERTED)
        and pattern.fullmatch(path.name) is not None
        and not any(one.is_relative_to(place) or place.is_relative_to(one) for one in named)
    )


def named_by(workspace: Workspace, rounds: Sequence[Round]) -> list[Path]:
    """What the workspace's configuration names, and those of rounds that are not done.

    Raises FlywheelError where the configuration cannot be read: nobody knows then what it names.
    """
    configs = [workspace.config()]
    for one in rounds:
        if one.status != "done":
            with contextlib.suppress(ValueError):  # of another flywheel: `input_faults` tells it
                configs.append(Config.model_validate(dict(one.config)))
    return [path for config in configs for path in named_paths(config)]


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
        if model.pruned_at is not None:
            continue  # what is left of its folder is a leftover
        if not folder.is_dir():
            # A generator that was moved is found by the next round, where the configuration names it.
            if own or model.digest not in configured:
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


def leftovers(
    workspace: Workspace, models: Sequence[Model], rounds: Sequence[Round], named: Sequence[Path]
) -> Iterator[Leftover]:
    """What killed writers left, trainings that nobody goes on with, folders and conversions of no model.

    Only what flywheel itself made, and nothing that is ``named``. Meaningful only while nobody is at work in the workspace:
    a writer has such folders, too.
    """
    # Not the database's own .tmp: a reader may be at work in it.
    for path in sorted([*workspace.folder.glob("config.yaml.tmp"), *workspace.folder.glob("flywheel.schema-*.tmp")]):
        yield Leftover(path=path, why="not written to its end")
    recorded = on_disk(models)
    for path in sorted(workspace.models.iterdir()) if workspace.models.is_dir() else ():
        name = workspace.inside(path)
        if path.name == CONVERTED:
            yield from (one for one in _conversions(path, models) if is_own(workspace, one.path, named))
        elif not is_own(workspace, path, named):
            continue
        elif path.suffix == ".tmp":
            yield Leftover(path=path, why="not written to its end")
        elif path.suffix == ".training":
            if not _goes_on(path, recorded, rounds):
                yield Leftover(path=path, why="a training that nothing goes on with")
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
    store = workspace.store
    models, rounds = with_those_put_back(workspace, store.all_models()), store.rounds(controls=True)
    yield from model_faults(workspace, models)
    yield from input_faults(workspace, rounds)
    if workspace.is_at_work():
        return
    try:
        named = named_by(workspace, rounds)
    except FlywheelError as error:
        yield Fault(check="leftovers", found=f"not looked for: {error}", remedy="mend the config: what it names is none")
        return
    for one in leftovers(workspace, models, rounds, named):
        yield Fault(check="leftovers", found=f"{workspace.inside(one.path)}: {one.why}", remedy=PRUNE)
