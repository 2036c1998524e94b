"""The list of the files of a backup with their digests: its `backup.json`."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO

from pydantic import BaseModel, ConfigDict, ValidationError

from flywheel.core.files import digest_file
from flywheel.core.version import __version__
from flywheel.errors import StoreError
from flywheel.store.store import Store

MANIFEST = "backup.json"
FORMAT = 1
DATABASE = "flywheel.duckdb"
HINT = "Name the folder or .tar file of a `flywheel backup`."


class Manifest(BaseModel):
    """The contents of a backup."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    flywheel: str
    """Version that made the backup."""
    made_at: str
    rounds: list[str]
    """Names with their status."""
    size: int
    """Bytes of all files."""
    files: dict[str, str]
    """SHA-256 of each file, by path in the workspace."""


def manifest_of(sources: Mapping[str, Path], store: Store) -> Manifest:
    """The manifest of these files."""
    return Manifest(
        flywheel=__version__,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        rounds=[f"{row.round} {row.status}" for row in store.rounds(controls=True)],
        size=sum(path.stat().st_size for path in sources.values()),
        files={name: digest_file(path) for name, path in sources.items()},
    )


@contextmanager
def opened(source: Path) -> Iterator[Callable[[str], IO[bytes]]]:
    """A function that opens a file of a backup by its name. Raises StoreError if there is no such file."""
    try:
        if source.is_dir():
            yield lambda name: (source / name).open("rb")
        else:
            with tarfile.open(source) as tar:
                yield lambda name: tar.extractfile(name) or io.BytesIO()
    except (FileNotFoundError, KeyError, tarfile.TarError) as error:
        raise StoreError(f"{source} is not a complete backup: {error}", HINT) from None


def read_manifest(source: Path) -> Manifest:
    """The manifest of a backup; raises StoreError if there is none or it is invalid."""
    try:
        with opened(source) as open_file, open_file(MANIFEST) as file:
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
    with opened(path) as open_file:
        for name, digest in files.items():
            with open_file(name) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:  # type: ignore[arg-type]
                    raise StoreError(f"{name} differs from its digest in {MANIFEST}", "Use another backup or another disk.")
