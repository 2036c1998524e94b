"""Files that are whole or absent: written beside their place, synced, renamed into it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from flywheel.errors import StoreError
from flywheel.faults import FULL

WEIGHTS = (".safetensors", ".json", ".jinja", ".txt", ".model")
"""Endings of the files that decide what a model says."""


@contextlib.contextmanager
def publish(folder: Path) -> Iterator[Path]:
    """A folder to write to that takes its place, whole, at the end of the block; on an error nothing is left."""
    unfinished, former = folder.with_name(folder.name + ".tmp"), folder.with_name(folder.name + ".old")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _settle(folder, former)
        unfinished.mkdir(parents=True)
    except OSError as error:
        if error.errno in FULL:
            raise
        raise StoreError(f"cannot write {folder}: {error.strerror}; choose another place, or mend the rights") from None
    try:
        yield unfinished
        sync_all(unfinished)
        # What lies there goes when the new one is in its place: it may be an export that somebody reads.
        if folder.exists():
            folder.rename(former)
        unfinished.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        _settle(folder, former)


def _settle(folder: Path, former: Path) -> None:
    """Remove what a folder has taken the place of, or put it back where nothing did."""
    if former.exists() and not folder.exists():
        former.rename(folder)
    shutil.rmtree(former, ignore_errors=True)


def sync_all(folder: Path) -> None:
    """Have a folder's files on the disk, so that what is written after them finds them whole even if the power goes."""
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest_files(*paths: Path) -> str:
    """SHA-256 over the names and bytes of files, in order of their names."""
    total = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.name):
        with path.open("rb") as file:
            total.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return total.hexdigest()


def digest_model(folder: Path) -> str:
    """SHA-256 over the files of a model's folder that decide what it says."""
    return digest_files(*(path for path in folder.iterdir() if path.suffix in WEIGHTS))


def write_whole(path: Path, text: str) -> None:
    """Write a file that is whole or absent."""
    unfinished = path.with_name(path.name + ".tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        _sync(unfinished)
        unfinished.rename(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def encodable(text: str) -> bool:
    """Whether a text has no half characters, which no tokenizer reads."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
