"""A workspace on disk: `flywheel.duckdb`, `models/`, `config.yaml`, and the lock of the process that is using it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from flywheel.config import Config, as_text, load
from flywheel.core.faults import FULL
from flywheel.core.files import digest_model, expanded, write_whole
from flywheel.errors import ModelError, StoreError, WorkspaceHeld
from flywheel.records import Model
from flywheel.store.store import Store

RECORDED_MODEL = re.compile(r"generator-r\d+(-[\w-]+)?|(base|joint|reward|member-.+)-[0-9a-f]{12}")
"""Names of the folders of recorded models."""
RESTORE = "Restore the folder from a backup, or run `flywheel doctor --deep`, which lists what can be rebuilt instead."
"""What to do about a missing or changed model."""


class Workspace:
    """A folder with one store, its models and its configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = expanded(folder).resolve()
        if self.folder.exists() and not self.folder.is_dir():
            raise StoreError(f"the workspace {self.folder} is a file, not a folder", "Choose a folder with --workspace.")
        self.config_file = self.folder / "config.yaml"
        self.models = self.folder / "models"
        self.store = Store(self.folder / "flywheel.duckdb")

    @property
    def exists(self) -> bool:
        """Whether the folder has a configuration."""
        return self.config_file.exists()

    def init(self, config: Path, overrides: Sequence[str] = ()) -> None:
        """Create the folder and the tables, and copy the configuration into it with the overrides.

        Raises StoreError where a configuration already exists or the folder cannot be written.
        """
        if self.exists:
            raise StoreError(f"{self.config_file} already exists", "Edit the file, or choose another --workspace.")
        self.refuse_incomplete()
        load(config, overrides)
        text = as_text(config, overrides)
        try:
            self.models.mkdir(parents=True, exist_ok=True)
            self.store.migrate()
            write_whole(self.config_file, text)
        except OSError as error:
            message = f"cannot write the workspace {self.folder}: {error.strerror}"
            raise StoreError(message, "Check the permissions and the free disk space, or choose another --workspace.") from None

    def config(self, overrides: Sequence[str] = ()) -> Config:
        """The workspace's configuration."""
        self.refuse_incomplete()
        if not self.exists:
            raise StoreError(f"no workspace at {self.folder}", "Create the workspace with `flywheel round` or `flywheel init`.")
        return load(self.config_file, overrides)

    def refuse_incomplete(self) -> None:
        """Raise StoreError where the configuration or the database is missing, but not what was made with it."""
        if not self.exists and self.store.path.exists():
            self.store.migrate()
            if not self.store.is_empty:
                raise StoreError(
                    f"{self.config_file} is missing, but {self.store.path.name} has models or rounds made with it",
                    "Restore the file (table `rounds` has all settings in its column `config`), or choose another --workspace.",
                )
        names = sorted(path.name for path in self.models.glob("*") if RECORDED_MODEL.fullmatch(path.name))
        if names and not self.store.path.exists():
            raise StoreError(
                f"the database {self.store.path} is missing, but models/ has {names[0]}, which was recorded in it",
                "Put the file back, or restore a backup to a new workspace: `flywheel --workspace OTHER restore DIR`.",
            )

    def locate(self, model: Model) -> Path:
        """The folder of a recorded model; raises ModelError for one that was pruned or is missing."""
        folder = self.folder / model.path
        if folder.exists():
            return folder
        if model.pruned_at is not None:
            raise ModelError(
                f"{model.model_id} was removed by `flywheel prune` on {model.pruned_at:%Y-%m-%d}",
                "Restore it from an earlier backup (`flywheel --workspace OTHER restore DIR`).",
            )
        raise ModelError(f"the folder of {model.model_id} is missing: {folder}", RESTORE)

    def refuse_altered(self, models: Iterable[Model]) -> None:
        """Raise ModelError where the files of a recorded model have changed; every file is read."""
        for model in models:
            folder = self.locate(model)
            if digest_model(folder) != model.digest:
                raise ModelError(f"{model.model_id} has changed since it was recorded: {folder}", RESTORE)

    def has(self, model: Model) -> bool:
        """Whether the folder of a recorded model exists."""
        return (self.folder / model.path).is_dir()

    def inside(self, path: Path) -> str:
        """A path as it is recorded: relative where it lies in the workspace, so that the folder can be moved."""
        return str(path.relative_to(self.folder) if path.is_relative_to(self.folder) else path)

    def is_at_work(self) -> bool:
        """Whether a process is using the workspace; none uses a folder that cannot be written."""
        try:
            with self.at_work():
                return False
        except StoreError as error:
            return isinstance(error, WorkspaceHeld)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Lock the workspace for the length of a with block; the lock goes with the process, however it ends.

        Raises WorkspaceHeld where another process has it.
        """
        from filelock import FileLock, Timeout

        if not self.folder.exists():
            hint = "Create the workspace with `flywheel round`, or choose another --workspace."
            raise StoreError(f"no workspace at {self.folder}", hint)
        note = self.folder / "at-work.pid"
        try:
            lock = FileLock(self.folder / "at-work.lock").acquire(timeout=0)
        except Timeout:
            holder = "another process"
            with contextlib.suppress(OSError):  # it may end just now
                holder = f"process {note.read_text(encoding='utf-8')}"
            raise WorkspaceHeld(f"{self.folder} is in use by {holder}", "Wait until that process ends, or stop it.") from None
        except OSError as error:
            if error.errno in FULL:
                raise
            raise StoreError(
                f"cannot write the workspace {self.folder}: {error.strerror}", "Make the folder writable."
            ) from None
        with lock:
            with contextlib.suppress(OSError):  # only the lock counts, and the work may be to free space on a full disk
                started = datetime.now().astimezone().isoformat(timespec="seconds")
                write_whole(note, f"{os.getpid()} on {socket.gethostname()} since {started}")
            try:
                yield
            finally:
                note.unlink(missing_ok=True)
