"""`flywheel backup` and `flywheel restore`: the database at one instant, its models and the configuration.

The folder of a recorded model never changes, so the database is copied first and the models after it. What was written is
read back and compared with the digests in `backup.json` before it gets its name.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flywheel.core.files import WEIGHTS, digest_of, sync_tree
from flywheel.errors import FlywheelError, StoreError
from flywheel.integrity.folders import by_folder, named_paths, with_restored
from flywheel.integrity.manifest import (
    DATABASE,
    MANIFEST,
    Manifest,
    manifest_of,
    opened,
    read_manifest,
    refuse_differences,
)
from flywheel.records import Model
from flywheel.store.database import snapshot, verify
from flywheel.store.store import Store
from flywheel.workspace import Workspace

UNFINISHED = ".flywheel-unfinished"
"""Suffix of a backup or workspace that is not complete yet."""
CONFIG = "config.yaml"
COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".7z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A backup of a workspace, or a workspace restored from one."""

    path: Path
    manifest: Manifest
    outside: list[str]
    """What the configuration names outside the workspace, which no backup contains."""
    missing: Sequence[str] = ()
    """Models without a folder, which are not in the backup."""
    replaced: Path | None = None
    """Where the workspace that was there before is now."""


def back_up(workspace: Workspace, to: Path) -> Copy:
    """Copy a workspace to a new folder or, if the name ends in .tar, to a file; a round may be running.

    Raises StoreError if ``to`` exists, a model has changed since it was recorded, or the disk is full; nothing is left then.
    """
    if to.suffix in COMPRESSED:
        raise StoreError(f"cannot write a {to.suffix} backup", "Name a folder or a .tar file, and compress that.")
    if to.exists():
        raise StoreError(f"{to} already exists", "Name a new folder or .tar file.")
    if not workspace.store.path.exists():
        raise StoreError(
            f"no database at {workspace.store.path}, so there is nothing to back up", "Name the workspace with -w."
        )
    if to.resolve().is_relative_to(workspace.folder):
        raise StoreError(f"{to} is inside the workspace and would be lost with it", "Name a place outside.")
    workspace.store.migrate()
    # A killed process leaves these two; the next backup of this name removes them.
    unfinished, parts = to.with_name(to.name + UNFINISHED), to.with_name(to.name + ".parts" + UNFINISHED)
    try:
        _remove(unfinished, parts)
        parts.mkdir(parents=True)
        snapshot(workspace.store.path, parts / DATABASE)
        store = Store(parts / DATABASE)
        models = by_folder(with_restored(workspace, store.models()))
        sources = {DATABASE: store.path} | dict(_sources(workspace, models))
        manifest = manifest_of(sources, store)
        _refuse_changed_models(manifest.files, models)
        (parts / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        write = _write_tar if to.suffix == ".tar" else _write_folder
        write(sources | {MANIFEST: parts / MANIFEST}, unfinished)
        refuse_differences(unfinished, manifest.files)
        sync_tree(unfinished)
        unfinished.rename(to)
    except OSError as error:
        message = f"cannot write the backup {to}: {error.strerror or error}"
        raise StoreError(message, "Free some space or name another place.") from None
    finally:
        with contextlib.suppress(OSError):
            _remove(unfinished, parts)
    folders = {workspace.folder / path: model for path, model in models.items() if model.pruned_at is None}
    inside = {folder: model for folder, model in folders.items() if folder.is_relative_to(workspace.folder)}
    missing = [model.model_id for folder, model in inside.items() if not folder.is_dir()]
    return Copy(path=to, manifest=manifest, outside=_outside(workspace), missing=missing)


def restore(source: Path, workspace: Workspace, *, overwrite: bool = False) -> Copy:
    """Make a workspace from a backup; an existing workspace is renamed and kept.

    Raises StoreError if the backup is not complete, or if the workspace exists and ``overwrite`` is false.
    """
    manifest = read_manifest(source)
    folder, replaced = workspace.folder, None
    if folder.exists() and any(folder.iterdir()):
        if not overwrite:
            raise StoreError(f"{folder} is not empty", "Name another --workspace, or add --overwrite, which keeps the old one.")
        workspace.refuse_if_at_work()
        names = (folder.with_name(f"{folder.name}.replaced-{number}") for number in itertools.count(1))
        replaced = next(name for name in names if not name.exists())
    unfinished = folder.with_name(folder.name + UNFINISHED)
    try:
        _remove(unfinished)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _unpack(source, manifest.files, unfinished)
        refuse_differences(unfinished, manifest.files)
        verify(unfinished / DATABASE)
        (unfinished / "models").mkdir(exist_ok=True)
        sync_tree(unfinished)
        _replace(folder, unfinished, replaced)
    except OSError as error:
        message = f"cannot restore to {folder}: {error.strerror or error} (nothing has changed)"
        raise StoreError(message, "Name another place.") from None
    finally:
        with contextlib.suppress(OSError):
            _remove(unfinished)
    return Copy(path=folder, manifest=manifest, outside=_outside(workspace), replaced=replaced)


def _replace(folder: Path, new: Path, replaced: Path | None) -> None:
    if replaced:
        folder.rename(replaced)
    elif folder.exists():
        folder.rmdir()
    try:
        new.rename(folder)
    except OSError:
        if replaced:
            replaced.rename(folder)
        raise


def _sources(workspace: Workspace, models: Mapping[str, Model]) -> Iterator[tuple[str, Path]]:
    """The files of a backup other than the database, by path in the workspace."""
    folders = [workspace.folder / path for path, model in models.items() if model.pruned_at is None]
    for path in [workspace.config_file, *folders, *_named_paths(workspace)]:
        if path.is_relative_to(workspace.folder):
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    yield file.relative_to(workspace.folder).as_posix(), file


def _named_paths(workspace: Workspace) -> list[Path]:
    try:
        return list(named_paths(workspace.config()))
    except FlywheelError:
        return []


def _outside(workspace: Workspace) -> list[str]:
    return sorted({str(path) for path in _named_paths(workspace) if not path.is_relative_to(workspace.folder)})


def _refuse_changed_models(files: Mapping[str, str], models: Mapping[str, Model]) -> None:
    for path, model in models.items():
        held = {PurePosixPath(name): digest for name, digest in files.items() if str(PurePosixPath(name).parent) == path}
        if held and digest_of((name.name, digest) for name, digest in held.items() if name.suffix in WEIGHTS) != model.digest:
            hint = "Put its folder back, or remove it to make a backup without it."
            raise StoreError(f"{model.model_id} has changed since it was recorded", hint)


def _write_folder(sources: Mapping[str, Path], to: Path) -> None:
    for name, path in sources.items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to / name)


def _write_tar(sources: Mapping[str, Path], to: Path) -> None:
    with tarfile.open(to, "w") as tar:
        for name, path in sources.items():
            tar.add(path.resolve(), name, recursive=False)


def _unpack(source: Path, files: Iterable[str], to: Path) -> None:
    with opened(source) as open_file:
        for name in files:
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            with open_file(name) as file, (to / name).open("wb") as copy:
                shutil.copyfileobj(file, copy)


def _remove(*paths: Path) -> None:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
