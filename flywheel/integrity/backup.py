"""`flywheel backup` and `flywheel restore`: the database at one instant, its models and the configuration.

The folder of a recorded model never changes, so the database is copied first and the models after it. Every copy is read
back and compared with the digests in `backup.json` before it gets its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO

from pydantic import BaseModel, ConfigDict, ValidationError

from flywheel.core.files import digest_file, remove, sync_tree
from flywheel.core.version import __version__
from flywheel.errors import FlywheelError, StoreError
from flywheel.integrity.folders import by_folder, named_paths, recorded_models
from flywheel.store.database import snapshot, verify
from flywheel.store.store import Store
from flywheel.workspace import Workspace

DATABASE = "flywheel.duckdb"
MANIFEST = "backup.json"
FORMAT = 1
UNFINISHED = ".flywheel-unfinished"
"""Suffix of a backup or workspace that is not complete yet."""
COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".7z")
HINT = "Name the folder or .tar file of a `flywheel backup`."


class Manifest(BaseModel):
    """The contents of a backup."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
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
    replaced: Path | None = None
    """The new place of the workspace that was replaced."""


def back_up(workspace: Workspace, to: Path) -> Copy:
    """Copy a workspace to a new folder or, if the name ends in .tar, to a file; a round may be running.

    Raises StoreError if ``to`` exists or the disk is full, and ModelError if a model has changed; nothing is left then.
    """
    if to.suffix in COMPRESSED:
        raise StoreError(f"cannot write a {to.suffix} backup", "Name a folder or a .tar file, and compress that.")
    if to.exists():
        raise StoreError(f"{to} already exists", "Name a new folder or .tar file.")
    if to.resolve().is_relative_to(workspace.folder):
        raise StoreError(f"{to} is inside the workspace and would be lost with it", "Name a place outside.")
    workspace.store.rounds()  # upgrades an older database, and raises StoreError if there is none
    # A killed process leaves these two; the next backup of this name removes them.
    unfinished, parts = to.with_name(to.name + UNFINISHED), to.with_name(to.name + ".parts" + UNFINISHED)
    try:
        remove(unfinished, parts)
        parts.mkdir(parents=True)
        snapshot(workspace.store.path, parts / DATABASE)
        store = Store(parts / DATABASE)
        models = [model for model in by_folder(recorded_models(workspace, store)).values() if model.pruned_at is None]
        inside = [model for model in models if (workspace.folder / model.path).is_relative_to(workspace.folder)]
        folders = {workspace.folder / model.path: model for model in inside if workspace.has(model)}
        workspace.refuse_altered(folders.values())
        paths = [workspace.config_file, *folders, *_named_paths(workspace)]
        sources = {DATABASE: store.path} | dict(_files(workspace, paths))
        manifest = Manifest(
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            rounds=[f"{row.round} {row.status}" for row in store.rounds(controls=True)],
            size=sum(path.stat().st_size for path in sources.values()),
            files={name: digest_file(path) for name, path in sources.items()},
        )
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
            remove(unfinished, parts)
    missing = [model.model_id for model in inside if not workspace.has(model)]
    return Copy(path=to, manifest=manifest, outside=_outside(workspace), missing=missing)


def restore(source: Path, workspace: Workspace, *, overwrite: bool = False) -> Copy:
    """Make a workspace from a backup; an existing workspace is renamed and kept.

    Raises StoreError if the backup is not complete, or if the workspace exists and ``overwrite`` is false.
    """
    manifest = _read_manifest(source)
    folder, replaced = workspace.folder, None
    if folder.exists() and any(folder.iterdir()):
        if not overwrite:
            raise StoreError(f"{folder} is not empty", "Name another --workspace, or add --overwrite, which keeps the old one.")
        with workspace.at_work():  # raises where a process is using it
            pass
        names = (folder.with_name(f"{folder.name}.replaced-{number}") for number in itertools.count(1))
        replaced = next(name for name in names if not name.exists())
    unfinished = folder.with_name(folder.name + UNFINISHED)
    try:
        remove(unfinished)
        with _opened(source) as open_file:
            for name in manifest.files:
                (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
                with open_file(name) as file, (unfinished / name).open("wb") as copy:
                    shutil.copyfileobj(file, copy)
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
            remove(unfinished)
    return Copy(path=folder, manifest=manifest, outside=_outside(workspace), replaced=replaced)


def _replace(folder: Path, new: Path, replaced: Path | None) -> None:
    if folder.exists():
        folder.rename(replaced) if replaced else folder.rmdir()
    try:
        new.rename(folder)
    except OSError:
        if replaced:
            replaced.rename(folder)
        raise


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


def _write_folder(sources: Mapping[str, Path], to: Path) -> None:
    for name, path in sources.items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to / name)


def _write_tar(sources: Mapping[str, Path], to: Path) -> None:
    with tarfile.open(to, "w") as tar:
        for name, path in sources.items():
            tar.add(path.resolve(), name, recursive=False)


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[Callable[[str], IO[bytes]]]:
    """A function that opens a file of a backup by its name; raises StoreError if there is no such file."""
    try:
        if source.is_dir():
            yield lambda name: (source / name).open("rb")
        else:
            with tarfile.open(source) as tar:
                yield lambda name: tar.extractfile(name) or io.BytesIO()
    except (FileNotFoundError, KeyError, tarfile.TarError) as error:
        raise StoreError(f"{source} is not a complete backup: {error}", HINT) from None


def _read_manifest(source: Path) -> Manifest:
    try:
        with _opened(source) as open_file, open_file(MANIFEST) as file:
            manifest = Manifest.model_validate_json(file.read())
    except ValidationError:
        raise StoreError(f"{source} is not a backup: its {MANIFEST} is invalid", HINT) from None
    if manifest.format > FORMAT:
        raise StoreError(f"{source} is a backup of a newer flywheel (format {manifest.format})", "Upgrade flywheel.")
    for path in map(PurePosixPath, manifest.files):
        if path.is_absolute() or ".." in path.parts:
            raise StoreError(f"{source} is not a safe backup: it would write {str(path)!r} outside the workspace", HINT)
    if DATABASE not in manifest.files:
        raise StoreError(f"{source} is not a backup: its {MANIFEST} does not list {DATABASE}", HINT)
    return manifest


def refuse_differences(path: Path, files: Mapping[str, str]) -> None:
    """Raise StoreError if a file of a folder or .tar file differs from its digest."""
    with _opened(path) as open_file:
        for name, digest in files.items():
            with open_file(name) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:  # type: ignore[arg-type]
                    raise StoreError(f"{name} differs from its digest in {MANIFEST}", "Use another backup or another disk.")
