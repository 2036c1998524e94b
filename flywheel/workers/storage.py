"""How the nodes of a cluster get a model: in place, or fetched once, by digest, from a storage that all nodes reach."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.core.files import digest_model, publish
from flywheel.errors import FlywheelError, ModelError, StoreError, first_line

COMPLETE = ".whole"
"""The file that marks a complete upload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A model's folder, for the nodes of a cluster."""

    folder: Path
    """For this process, and for every node that shares its disk."""
    digest: str
    storage: str | None = None

    @property
    def _address(self) -> str:
        return f"{self.storage}/models/{self.digest}"

    def store(self) -> None:
        """Upload it to the storage unless it is there; raises StoreError where the storage cannot be written."""
        if self.storage is None:
            return
        with _storage(self._address, StoreError, "write to") as (files, path):
            mark = f"{path}/{COMPLETE}"
            if files.exists(mark):
                return
            files.makedirs(path, exist_ok=True)
            files.put([str(file) for file in self.folder.iterdir() if file.is_file()], f"{path}/")
            files.pipe_file(mark, self.digest.encode())

    def fetch(self) -> Path:
        """The folder on this node: in place, or fetched once; raises ModelError where it is missing or has changed."""
        if self.storage is None:
            if not self.folder.is_dir():
                hint = "Share the workspace's folder with all nodes, or set `cluster.storage`."
                raise ModelError(f"no model folder at {self.folder} on this node", hint)
            return self.folder
        from filelock import FileLock

        folder = cache() / self.digest
        cache().mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                with publish(folder) as unfinished:
                    self._download(unfinished)
        return folder

    def _download(self, folder: Path) -> None:
        with _storage(self._address, ModelError, "fetch a model from") as (files, path):
            files.get(files.ls(path, detail=False), f"{folder}/")
        (folder / COMPLETE).unlink(missing_ok=True)
        if digest_model(folder) != self.digest:
            raise ModelError(f"{self._address} has changed since it was stored", "Delete it; the next run stores it again.")


def check_storage(storage: str) -> None:
    """Raise StoreError where the storage cannot be written."""
    with _storage(storage, StoreError, "write to") as (files, path):
        files.makedirs(f"{path}/models", exist_ok=True)
        files.pipe_file(f"{path}/models/.written", b"")


def cache() -> Path:
    """Where a node keeps the models that it fetched."""
    return Path(os.environ.get("FLYWHEEL_CACHE", Path(tempfile.gettempdir()) / f"flywheel-{os.getuid()}"))


@contextmanager
def _storage(address: str, kind: type[FlywheelError], action: str) -> Iterator[tuple[Any, str]]:
    """The file system of an address and the path in it; any error of its library becomes one of ours."""
    from fsspec.core import url_to_fs

    try:
        yield url_to_fs(address)
    except Exception as error:  # permissions, names, networks
        message = f"cannot {action} {address}: {first_line(error)}"
        raise kind(message, "Fix `cluster.storage` or its permissions.") from None
