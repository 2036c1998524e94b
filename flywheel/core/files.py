"""Files that are complete or absent: written under another name, synced, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from flywheel.core.faults import FULL
from flywheel.errors import ConfigError, StoreError

LONGEST_NAME = 255
"""Bytes of a file name."""
WEIGHTS = (".safetensors", ".json", ".jinja", ".txt", ".model")
"""Suffixes of the files that decide what a model generates."""


def expanded(path: str | Path) -> Path:
    """A path with ``~`` expanded; raises ConfigError for an impossible path."""
    text = str(path)
    if "\0" in text or not encodable(text) or any(len(os.fsencode(part)) > LONGEST_NAME for part in Path(text).parts):
        raise ConfigError(
            f"{text[:80]!r} is not a valid path", f"Use UTF-8 names without null bytes, of at most {LONGEST_NAME} bytes."
        )
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(f"cannot expand {text!r}: no such user", "Write the full path.") from None


@contextlib.contextmanager
def publish(folder: Path) -> Iterator[Path]:
    """A temporary folder that replaces ``folder`` at the end of the block; on an error nothing changes."""
    unfinished, former = folder.with_name(folder.name + ".tmp"), folder.with_name(folder.name + ".old")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _remove_or_restore(folder, former)
        unfinished.mkdir(parents=True)
    except OSError as error:
        if error.errno in FULL:
            raise
        raise StoreError(f"cannot write {folder}: {error.strerror}", "Fix the permissions or choose another folder.") from None
    try:
        yield unfinished
        sync_tree(unfinished)
        # The old folder is removed once the new one is in place: it may be an export that somebody is reading.
        if folder.exists():
            folder.rename(former)
        unfinished.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        _remove_or_restore(folder, former)


def _remove_or_restore(folder: Path, former: Path) -> None:
    """Remove a folder that was replaced, or restore it where its replacement is missing."""
    if former.exists() and not folder.exists():
        former.rename(folder)
    shutil.rmtree(former, ignore_errors=True)


def remove(*paths: Path) -> None:
    """Remove files, links, and folders with their contents, where they exist."""
    for path in paths:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def sync_tree(path: Path) -> None:
    """Flush a file, or a folder with its contents, to disk, so that it survives a power failure."""
    for entry in [*path.rglob("*"), path]:
        _sync(entry)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest_files(*paths: Path) -> str:
    """SHA-256 over the names and bytes of files, in order of their names."""
    ordered = sorted(paths, key=lambda path: path.name)
    return hashlib.sha256("".join(f"{path.name}\0{digest_file(path)}\0" for path in ordered).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 over the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_model(folder: Path) -> str:
    """SHA-256 over the files of a model's folder that decide what it generates."""
    return digest_files(*(path for path in folder.iterdir() if path.suffix in WEIGHTS))


def write_whole(path: Path, text: str) -> None:
    """Write a file that is complete or absent."""
    unfinished = path.with_name(path.name + ".tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        _sync(unfinished)
        unfinished.rename(path)
        _sync(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def encodable(text: str) -> bool:
    """Whether a text has no half surrogate pairs, which no tokenizer reads."""
    return text.encode("utf-8", "ignore").decode() == text
