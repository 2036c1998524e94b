"""`flywheel backup` and `flywheel restore`: the database at one instant, its models and the configuration.

The folder of a recorded model never changes, so the database is copied first and the models after it. Every copy is read
back and compared with the digests in `backup.json` before it gets its name.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from pydantic import BaseModel

from flywheel.core.files import digest_file, expanded, remove, sync_tree
from flywheel.core.version import __version__
from flywheel.errors import FlywheelError, StoreError
from flywheel.integrity.folders import by_folder, named_paths, recorded_models
from flywheel.store.database import snapshot, verify
from flywheel.store.store import Store
from flywheel.workspace import Workspace

DATABASE = "flywheel.duckdb"
MANIFEST = "backup.json"
UNFINISHED = ".flywheel-unfinished"
"""Suffix of a backup or workspace that is not complete yet."""
HINT = "Use a complete folder created by `flywheel backup`."


class Manifest(BaseModel, frozen=True):
    """The contents of a backup."""

    flywheel: str = __version__
    """Version that made the backup."""
    made_at: str
    rounds: list[str]
    """Names with their status."""
    size: int
    """Bytes of all files."""
    files: dict[str, str]
    """SHA-256 of each file, by path in the workspace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A backup of a workspace, or a workspace restored from one."""

    path: Path
    manifest: Manifest
    outside: list[str]
    """What the configuration names outside the workspace, which no backup contains."""
    missing: Sequence[str] = ()
    """Models without a folder, which are not in the backup."""


def back_up(workspace: Workspace, to: Path) -> Copy:
    """Copy a workspace to a new folder; a round may be running.

    Raises StoreError if ``to`` exists or the disk is full, and ModelError if a model has changed; nothing is left then.
    """
    to = expanded(to)
    if to.exists():
        raise StoreError(f"{to} already exists", "Choose a new folder.")
    if to.resolve().is_relative_to(workspace.folder):
        raise StoreError(f"{to} is inside the workspace and would be lost with it", "Choose a folder outside the workspace.")
    workspace.store.rounds()  # upgrades an older database, and raises StoreError if there is none
    with _complete_or_absent(to, "Free some space, or choose another folder.") as unfinished:
        snapshot(workspace.store.path, unfinished / DATABASE)
        store = Store(unfinished / DATABASE)
        models = [model for model in by_folder(recorded_models(workspace, store)).values() if model.pruned_at is None]
        inside = [model for model in models if (workspace.folder / model.path).is_relative_to(workspace.folder)]
        folders = {workspace.folder / model.path: model for model in inside if workspace.has(model)}
        workspace.refuse_altered(folders.values())
        sources = dict(_files(workspace, [workspace.config_file, *folders, *_named_paths(workspace)]))
        files = {DATABASE: digest_file(store.path)} | {name: digest_file(path) for name, path in sources.items()}
        _copy(sources, unfinished)
        _refuse_differences(unfinished, files)
        manifest = Manifest(
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            rounds=[f"{row.round} {row.status}" for row in store.rounds(controls=True)],
            size=sum((unfinished / name).stat().st_size for name in files),
            files=files,
        )
        (unfinished / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    missing = [model.model_id for model in inside if not workspace.has(model)]
    return Copy(path=to, manifest=manifest, outside=_outside(workspace), missing=missing)


def restore(source: Path, workspace: Workspace) -> Copy:
    """Make a workspace from a backup; raises StoreError if the backup is not complete, or if the workspace exists."""
    manifest, folder = _read_manifest(source), workspace.folder
    if folder.exists() and any(folder.iterdir()):
        raise StoreError(f"{folder} is not empty", "Rename the folder, or choose another one with --workspace.")
    with _complete_or_absent(folder, "Free some space, or choose another --workspace.") as unfinished:
        _copy({name: source / name for name in manifest.files}, unfinished)
        _refuse_differences(unfinished, manifest.files)
        verify(unfinished / DATABASE)
        (unfinished / "models").mkdir(exist_ok=True)
    return Copy(path=folder, manifest=manifest, outside=_outside(workspace))


@contextlib.contextmanager
def _complete_or_absent(folder: Path, hint: str) -> Iterator[Path]:
    """A temporary folder that becomes ``folder`` at the end of the block; on an error nothing is left of it."""
    unfinished = folder.with_name(folder.name + UNFINISHED)
    try:
        remove(unfinished)
        unfinished.mkdir(parents=True)
        yield unfinished
        sync_tree(unfinished)
        unfinished.rename(folder)
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error.strerror or error}", hint) from None
    finally:
        with contextlib.suppress(OSError):
            remove(unfinished)


def _files(workspace: Workspace, paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """The files at these paths in the workspace and in these folders, by path in the workspace."""
    for path in paths:
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


def _copy(sources: Mapping[str, Path], to: Path) -> None:
    for name, path in sources.items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to / name)


def _refuse_differences(folder: Path, files: Mapping[str, str]) -> None:
    """Raise StoreError if a file of a folder differs from its digest."""
    for name, digest in files.items():
        if digest_file(folder / name) != digest:
            raise StoreError(
                f"the copy of {name} differs from the original",
                "Run the command again. If it fails again, check the disk, or use another backup.",
            )


def _read_manifest(source: Path) -> Manifest:
    path = source / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}", HINT) from None
    except ValueError:
        raise StoreError(f"{path} is not a valid manifest of a backup", HINT) from None
    if unsafe := [name for name in manifest.files if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]:
        raise StoreError(f"{path} lists {unsafe[0]!r}, which is outside the backup", HINT)
    if DATABASE not in manifest.files:
        raise StoreError(f"{path} does not list {DATABASE}", HINT)
    if missing := [name for name in manifest.files if not (source / name).is_file()]:
        raise StoreError(f"{source} is incomplete: {missing[0]} is missing", HINT)
    return manifest
