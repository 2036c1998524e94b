"""Models on their way to the nodes of a cluster: seen in place, or fetched once, by digest, from where all nodes reach."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from flywheel.core.files import digest_model, publish
from flywheel.errors import ModelError, StoreError, first_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A model's folder as the nodes find it."""

    folder: Path
    """Where it is for this process, and for every node that shares its disk."""
    digest: str
    storage: str | None = None

    @property
    def _address(self) -> str:
        return f"{self.storage}/models/{self.digest}"

    def store(self) -> None:
        """Put it where the nodes find it, if it is not there yet; raises StoreError where that cannot be written."""
        if self.storage is None:
            return
        from fsspec.core import url_to_fs

        try:
            files, place = url_to_fs(self._address)
            done = f"{place}/{DONE}"
            if files.exists(done):
                return
            files.makedirs(place, exist_ok=True)
            for path in sorted(self.folder.iterdir()):
                if path.is_file():
                    files.put_file(str(path), f"{place}/{path.name}")
            files.pipe_file(done, self.digest.encode())
        except Exception as error:  # whatever the storage's library raises: rights, names, networks
            raise _unwritable(self.storage, error) from None

    def fetch(self) -> Path:
        """The folder on this node: in place, or fetched once. Raises ModelError where it is not to be had as it was stored."""
        if self.storage is None:
            if not self.folder.is_dir():
                raise ModelError(
                    f"no model folder at {self.folder} on this node; share the workspace's folder with all nodes, "
                    "or set cluster.storage"
                )
            return self.folder
        from filelock import FileLock

        folder = cache() / self.digest
        cache().mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                self._download(folder)
        return folder

    def _download(self, folder: Path) -> None:
        from fsspec.core import url_to_fs

        with publish(folder) as unfinished:
            try:
                files, place = url_to_fs(self._address)
                for name in files.ls(place, detail=False):
                    files.get_file(name, str(unfinished / Path(name).name))
            except Exception as error:  # as in `store`
                raise ModelError(
                    f"cannot fetch a model from cluster.storage {self._address} ({first_line(error)}); mend it"
                ) from None
            (unfinished / DONE).unlink(missing_ok=True)
            if digest_model(unfinished) != self.digest:
                raise ModelError(f"{self._address} is not the model that was stored there; delete it, it is stored anew")


def check_storage(storage: str) -> None:
    """Raise StoreError where nodes could not be given models through it."""
    try:
        from fsspec.core import url_to_fs

        files, place = url_to_fs(storage)
        files.makedirs(f"{place}/models", exist_ok=True)
        files.pipe_file(f"{place}/models/.written", b"")
    except Exception as error:  # as in `Stored.store`
        raise _unwritable(storage, error) from None


def _unwritable(storage: str, error: Exception) -> StoreError:
    return StoreError(f"cannot write to cluster.storage {storage} ({first_line(error)}); mend the address or its rights")


DONE = ".whole"
"""File that is written last."""


def cache() -> Path:
    """Where a node keeps what it has fetched."""
    return Path(os.environ.get("FLYWHEEL_CACHE", Path(tempfile.gettempdir()) / f"flywheel-{os.getuid()}"))
