"""Where things lie on disk: `flywheel.duckdb`, `models/`, `config.yaml`, and who is at work on them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from flywheel.config import Config, as_text, load
from flywheel.errors import ModelError, StoreError
from flywheel.files import expanded, write_whole
from flywheel.records import Model
from flywheel.store.store import Store


class Workspace:
    """A folder with one store, its models and its configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = expanded(folder).resolve()
        if self.folder.exists() and not self.folder.is_dir():
            raise StoreError(f"cannot write the workspace {self.folder}: it is a file; name another with --workspace")
        self.config_file = self.folder / "config.yaml"
        self.models = self.folder / "models"
        self.store = Store(self.folder / "flywheel.duckdb")

    @property
    def exists(self) -> bool:
        """Whether `flywheel init` was here."""
        return self.config_file.exists()

    def init(self, config: Path, overrides: Sequence[str] = ()) -> None:
        """Make the folder, copy the configuration into it with the overrides, create the tables.

        Raises StoreError where there is a configuration already or the folder cannot be written.
        """
        if self.exists:
            raise StoreError(f"{self.config_file} is there already; edit it, or name another workspace with --workspace")
        load(config, overrides)
        text = as_text(config, overrides)
        try:
            self.models.mkdir(parents=True, exist_ok=True)
            self.store.migrate()
            write_whole(self.config_file, text)
        except OSError as error:
            raise StoreError(
                f"cannot write the workspace {self.folder}: {error.strerror}; choose another with --workspace"
            ) from None

    def config(self, overrides: Sequence[str] = ()) -> Config:
        """The workspace's configuration."""
        if not self.exists:
            raise StoreError(f"no workspace at {self.folder}; make one with `flywheel round` or `flywheel init`")
        return load(self.config_file, overrides)

    def locate(self, model: Model) -> Path:
        """The folder of a recorded model; raises ModelError for one that was pruned."""
        folder = self.folder / model.path
        if model.pruned_at is not None and not folder.exists():
            raise ModelError(
                f"{model.model_id} was removed by `flywheel prune` on {model.pruned_at:%Y-%m-%d}; a backup made before has it "
                "(`flywheel --workspace OTHER restore BACKUP`)"
            )
        return folder

    def has(self, model: Model) -> bool:
        """Whether the folder of a recorded model is there."""
        return (self.folder / model.path).is_dir()

    def inside(self, path: Path) -> str:
        """A path as it is recorded: relative where it lies in the workspace, so that the folder can be moved."""
        return str(path.relative_to(self.folder) if path.is_relative_to(self.folder) else path)

    def is_at_work(self) -> bool:
        """Whether some process has the workspace for itself."""
        try:
            with self.at_work():
                return False
        except StoreError:
            return True

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Keep other processes from turning the same wheel; the lock goes with the process, however it ends."""
        from filelock import FileLock, Timeout

        if not self.folder.exists():
            raise StoreError(f"no workspace at {self.folder}; make one with `flywheel round`, or name another with --workspace")
        holder = self.folder / "at-work.pid"
        try:
            lock = FileLock(self.folder / "at-work.lock").acquire(timeout=0)
        except Timeout:
            who = holder.read_text(encoding="utf-8").strip() if holder.exists() else "unknown"
            raise StoreError(f"process {who} is at work in {self.folder}; wait for it, or stop it first") from None
        except OSError as error:
            raise StoreError(f"cannot write the workspace {self.folder}: {error.strerror}; mend the rights") from None
        with lock:
            holder.write_text(str(os.getpid()), encoding="utf-8")
            try:
                yield
            finally:
                holder.unlink(missing_ok=True)
