"""The workers of a cluster before they start: each travels to a node and loads its model there, once.

A node reads the model in place, or fetches it once, by digest, from a storage that all nodes reach.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flywheel.config import Config, EngineConfig
from flywheel.core.files import digest_model, publish
from flywheel.errors import FlywheelError, ModelError, StoreError, first_line
from flywheel.workers.work import Work, generate, score

COMPLETE = ".whole"
"""The file that marks a complete upload."""
Handler = Callable[[Work], Work]
"""What a worker does with each chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Workers of one kind, and what each of them needs."""

    start: Callable[[], Handler]
    """Loads the model of a worker, on its node."""
    size: int
    cpus: float
    gpus: float


def start_engine(settings: EngineConfig, generator: Stored, converted: Path) -> Handler:
    """Start a worker with an engine; ``converted`` is for weights, on a disk that the nodes share with this process."""
    from flywheel.engines.factory import load

    folder = converted if generator.storage is None else cache() / "converted"
    return partial(generate, engine=load(settings, generator.fetch(), cache=folder, digest=generator.digest[:12]))


def start_scorer(config: Config, reward_model: Stored) -> Handler:
    """Start a worker with the reward model."""
    from flywheel.reward.model import load_scorer

    return partial(score, scorer=load_scorer(reward_model.fetch(), config))


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
