"""`flywheel backup` and `flywheel restore`: the database as it is at one instant, the models that it names, the configuration.

A model's folder is never changed once it is recorded, so the database is copied first and the models it names after it. Each
file's digest goes into `backup.json`, which comes last; what was written is read back and compared before it takes its place.
"""

from __future__ import annotations

import contextlib
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from flywheel.core.files import WEIGHTS, digest_of, sync_tree
from flywheel.errors import FlywheelError, StoreError
from flywheel.integrity.folders import on_disk, with_those_put_back
from flywheel.integrity.manifest import DATABASE, MANIFEST, Kept, Manifest, manifest_of, read_manifest, refuse_differences
from flywheel.integrity.named import named_paths
from flywheel.records import Model
from flywheel.store.database import refuse_broken, snapshot
from flywheel.store.store import Store
from flywheel.workspace import Workspace

UNFINISHED = ".flywheel-unfinished"
"""What the name of something ends in that is not whole yet; nobody else's does."""
CONFIG = "config.yaml"
COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".7z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """A backup that was written, or a workspace that was restored."""

    path: Path
    files: int
    size: int
    """Bytes."""
    rounds: list[str]
    outside: list[str]
    """What the configuration names outside the workspace: no backup has it."""
    lost: list[str] = field(default_factory=list)
    """Models whose folders are gone, so that they are not in the backup."""
    replaced: Path | None = None
    """Where the workspace is now that was there before."""


def back_up(workspace: Workspace, to: Path) -> Copied:
    """Copy a workspace to a new folder, or to a file where the name ends in .tar; a round may be at work meanwhile.

    Raises StoreError where something is there already, a model is not what was recorded, or the disk is full: then
    nothing is left.
    """
    if to.suffix in COMPRESSED:
        raise StoreError(f"{to} ends in {to.suffix}; a backup is a new folder or a file that ends in .tar: compress that")
    if to.exists():
        raise StoreError(f"{to} is there already; name a new folder, or a new file that ends in .tar")
    if not workspace.store.path.exists():
        raise StoreError(f"no database at {workspace.store.path}; there is nothing to back up, name the workspace with -w")
    if to.resolve().is_relative_to(workspace.folder):
        raise StoreError(f"{to} is in the workspace, and would be lost with it; name a place outside of it")
    workspace.store.migrate()
    # A kill leaves these two, which are no backup; the next one of this name removes them.
    unfinished, parts = to.with_name(to.name + UNFINISHED), to.with_name(to.name + ".parts" + UNFINISHED)
    try:
        _remove(unfinished, parts)
        parts.mkdir(parents=True)
        snapshot(workspace.store.path, parts / DATABASE)
        store = Store(parts / DATABASE)
        models = with_those_put_back(workspace, store.all_models())
        sources = {DATABASE: store.path} | dict(_sources(workspace, models))
        manifest = manifest_of(sources, store)
        _refuse_changed_models(manifest.files, models)
        (parts / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        (_write_tar if to.suffix == ".tar" else _write_folder)(sources | {MANIFEST: parts / MANIFEST}, unfinished)
        refuse_differences(unfinished, manifest.files)
        sync_tree(unfinished)
        unfinished.rename(to)
    except OSError as error:
        raise StoreError(f"cannot write the backup {to}: {error.strerror or error}; nothing is left of it") from None
    finally:
        with contextlib.suppress(OSError):
            _remove(unfinished, parts)
    lost = [one.model_id for one in on_disk(models).values() if one.pruned_at is None and _is_lost(workspace, one)]
    return _copied(to, manifest, outside=_outside(workspace), lost=lost)


def _is_lost(workspace: Workspace, model: Model) -> bool:
    return (workspace.folder / model.path).is_relative_to(workspace.folder) and not workspace.has(model)


def restore(source: Path, workspace: Workspace, *, overwrite: bool = False) -> Copied:
    """Make a workspace of a backup; the one that is there stays beside it, under another name.

    Raises StoreError for what is no whole backup, and for a workspace that is there where ``overwrite`` does not allow it.
    """
    manifest = read_manifest(source)
    place = workspace.folder
    there = place.exists() and any(place.iterdir())
    if there and not overwrite:
        raise StoreError(
            f"{place} is not empty; name another with --workspace, or add --overwrite (what is there is kept beside)"
        )
    if there:
        workspace.refuse_if_at_work()
    unfinished, replaced = place.with_name(place.name + UNFINISHED), _free_name(place) if there else None
    try:
        _remove(unfinished)
        place.parent.mkdir(parents=True, exist_ok=True)
        _unpack(source, manifest.files, unfinished)
        refuse_differences(unfinished, manifest.files)
        refuse_broken(unfinished / DATABASE)
        (unfinished / "models").mkdir(exist_ok=True)
        sync_tree(unfinished)
        if replaced:
            place.rename(replaced)
        elif place.exists():
            place.rmdir()
        try:
            unfinished.rename(place)
        except OSError:
            if replaced:
                replaced.rename(place)
            raise
    except OSError as error:
        raise StoreError(f"cannot restore to {place}: {error.strerror or error}; nothing there has changed") from None
    finally:
        with contextlib.suppress(OSError):
            _remove(unfinished)
    return _copied(place, manifest, outside=_outside(workspace), replaced=replaced)


def _sources(workspace: Workspace, models: list[Model]) -> Iterator[tuple[str, Path]]:
    """The files of a backup beside the database, by their names in it."""
    if workspace.config_file.exists():
        yield CONFIG, workspace.config_file
    for path, model in on_disk(models).items():
        folder = workspace.folder / path
        if model.pruned_at is not None or not folder.is_relative_to(workspace.folder) or not folder.is_dir():
            continue
        yield from _files_below(folder, workspace.folder)
    for path_ in _named_paths(workspace):
        if path_.is_relative_to(workspace.folder):
            yield from _files_below(path_, workspace.folder)


def _files_below(path: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    for one in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if one.is_file():
            yield one.relative_to(folder).as_posix(), one


def _named_paths(workspace: Workspace) -> list[Path]:
    try:
        return list(named_paths(workspace.config()))
    except FlywheelError:
        return []


def _outside(workspace: Workspace) -> list[str]:
    return sorted({str(path) for path in _named_paths(workspace) if not path.is_relative_to(workspace.folder)})


def _refuse_changed_models(files: Mapping[str, Kept], models: list[Model]) -> None:
    """Raise StoreError where what is about to be copied is not what was recorded."""
    for path, model in on_disk(models).items():
        held = {PurePosixPath(name): one.sha256 for name, one in files.items() if str(PurePosixPath(name).parent) == path}
        if held and digest_of((name.name, one) for name, one in held.items() if name.suffix in WEIGHTS) != model.digest:
            raise StoreError(
                f"{model.model_id} is not what was recorded (its digest has changed); put its folder back, or remove it: a "
                "backup is made without it"
            )


def _write_folder(sources: Mapping[str, Path], to: Path) -> None:
    for name, path in sources.items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to / name)


def _write_tar(sources: Mapping[str, Path], to: Path) -> None:
    with tarfile.open(to, "w") as tar:
        for name, path in sources.items():
            tar.add(path.resolve(), name, recursive=False)


def _unpack(source: Path, files: Iterable[str], to: Path) -> None:
    to.mkdir()
    if source.is_dir():
        if lacking := [name for name in files if not (source / name).is_file()]:
            raise StoreError(f"{source} is no whole backup: it lacks {', '.join(lacking)}; take another")
        _write_folder({name: source / name for name in files}, to)
        return
    try:
        with tarfile.open(source) as tar:
            tar.extractall(to, members=[tar.getmember(name) for name in files], filter="data")
    except (tarfile.TarError, KeyError) as error:
        raise StoreError(f"{source} is no whole backup ({error.args[0]}); take another") from None


def _free_name(place: Path) -> Path:
    number = 1
    while (found := place.with_name(f"{place.name}.replaced-{number}")).exists():
        number += 1
    return found


def _remove(*paths: Path) -> None:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _copied(
    path: Path, manifest: Manifest, *, outside: list[str], lost: Sequence[str] = (), replaced: Path | None = None
) -> Copied:
    size = sum(one.size for one in manifest.files.values())
    return Copied(
        path=path, files=len(manifest.files), size=size, rounds=manifest.rounds, outside=outside, lost=list(lost),
        replaced=replaced,
    )  # fmt: skip
