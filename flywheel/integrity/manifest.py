"""What a backup holds, as its `backup.json` says: every file with its digest."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, ValidationError

from flywheel.core.files import digest_file
from flywheel.core.version import __version__
from flywheel.errors import StoreError
from flywheel.store.store import Store

MANIFEST = "backup.json"
FORMAT = 1
DATABASE = "flywheel.duckdb"


class Kept(BaseModel):
    """A file of a backup."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    size: int
    """Bytes."""


class Manifest(BaseModel):
    """What is in a backup."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    flywheel: str
    """The release that made it."""
    made_at: str
    rounds: list[str]
    """Names with their status."""
    files: dict[str, Kept]
    """By their names in the workspace."""


def manifest_of(sources: Mapping[str, Path], store: Store) -> Manifest:
    """The manifest of these files, each of which is read."""
    return Manifest(
        flywheel=__version__,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        rounds=[f"{one.round} {one.status}" for one in store.rounds(controls=True)],
        files={name: Kept(sha256=digest_file(path), size=path.stat().st_size) for name, path in sources.items()},
    )


def read_manifest(source: Path) -> Manifest:
    """What a backup holds; raises StoreError for what is none, or is not whole."""
    other = f"its {MANIFEST} is not what `flywheel backup` writes; take another"
    try:
        manifest = Manifest.model_validate_json(_text(source))
    except FileNotFoundError:
        what = f"it has no {MANIFEST}" if source.exists() else "there is nothing of that name"
        raise StoreError(f"{source} is no backup: {what}; name the folder or .tar of a `flywheel backup`") from None
    except ValidationError:
        raise StoreError(f"{source} is no backup: {other}") from None
    except tarfile.ReadError:
        raise StoreError(f"{source} is no whole .tar; name the folder or .tar of a `flywheel backup`") from None
    except (OSError, tarfile.TarError, KeyError) as error:
        raise StoreError(f"{source} is no whole backup ({error}); name the folder or .tar of a `flywheel backup`") from None
    if manifest.format > FORMAT:
        raise StoreError(f"{source} is a backup of a newer flywheel (format {manifest.format}); upgrade flywheel")
    for name in manifest.files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise StoreError(f"{source} names the file {name!r}, which is outside of a workspace; take another backup")
    if DATABASE not in manifest.files:
        raise StoreError(f"{source} is no backup: its {MANIFEST} names no {DATABASE}; take another")
    return manifest


def _text(source: Path) -> bytes:
    if source.is_dir():
        return (source / MANIFEST).read_bytes()
    with tarfile.open(source) as tar:
        file = tar.extractfile(MANIFEST)
        return b"" if file is None else file.read()


def refuse_differences(path: Path, files: Mapping[str, Kept]) -> None:
    """Raise StoreError where a file of a folder or .tar is not what the manifest says."""
    for name, digest in _digests(path, files):
        if digest != files[name].sha256:
            raise StoreError(f"{name} is not what the backup's {MANIFEST} says; the disk or the backup is broken, take another")


def _digests(path: Path, files: Mapping[str, Kept]) -> Iterator[tuple[str, str]]:
    if path.is_dir():
        yield from ((name, digest_file(path / name)) for name in files)
        return
    with tarfile.open(path) as tar:
        for name in files:
            member = tar.extractfile(name)
            assert member is not None, "it was written as a file"
            yield name, hashlib.file_digest(member, "sha256").hexdigest()  # type: ignore[arg-type]
