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
from flywheel.records import Model, ModelKind
from flywheel.store.store import Store

RECORDED_MODEL = re.compile(r"generator-r\d+(-[\w-]+)?|(base|joint|reward|member-.+)-[0-9a-f]{12}")
"""Names of the folders of recorded models."""
RESTORE = "Restore the folder from a backup (`flywheel --workspace OTHER restore DIR`)"


class Workspace:
    """A folder with one store, its models and its configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = expanded(folder).resolve()
        if self.folder.exists() and not self.folder.is_dir():
            raise StoreError(f"cannot use {self.folder} as a workspace: it is a file", "Choose another with --workspace.")
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
            raise StoreError(f"{self.config_file} already exists", "Edit it, or choose another workspace with --workspace.")
        self.refuse_lost_config()
        self.refuse_lost_database()
        load(config, overrides)
        text = as_text(config, overrides)
        try:
            self.models.mkdir(parents=True, exist_ok=True)
            self.store.migrate()
            write_whole(self.config_file, text)
        except OSError as error:
            message = f"cannot write the workspace {self.folder}: {error.strerror}"
            raise StoreError(message, "Choose another with --workspace.") from None

    def config(self, overrides: Sequence[str] = ()) -> Config:
        """The workspace's configuration."""
        self.refuse_lost_config()
        self.refuse_lost_database()
        if not self.exists:
            raise StoreError(f"no workspace at {self.folder}", "Create one with `flywheel round` or `flywheel init`.")
        return load(self.config_file, overrides)

    def refuse_lost_config(self) -> None:
        """Raise StoreError where a workspace with models or rounds has lost its configuration: no other may take its place."""
        if self.exists or not self.store.path.exists():
            return
        self.store.migrate()
        if not self.store.is_empty:
            raise StoreError(
                f"{self.config_file} is missing, but {self.store.path.name} has models or rounds made with it",
                "Restore the file (rounds.config has what each round ran with), or choose another --workspace.",
            )

    def refuse_lost_database(self) -> None:
        """Raise StoreError where models have lost their database: new models would take their names."""
        if self.store.path.exists() or not self.models.is_dir():
            return
        if names := sorted(path.name for path in self.models.iterdir() if RECORDED_MODEL.fullmatch(path.name)):
            raise StoreError(
                f"{self.store.path} is missing, but models/ has {names[0]}, which it recorded",
                "Restore the file with `flywheel restore`, or choose another workspace with --workspace.",
            )

    def locate(self, model: Model) -> Path:
        """The folder of a recorded model; raises ModelError for one that was pruned or is missing."""
        folder = self.folder / model.path
        if folder.exists():
            return folder
        if model.pruned_at is not None:
            raise ModelError(
                f"{model.model_id} was removed by `flywheel prune` on {model.pruned_at:%Y-%m-%d}",
                f"{RESTORE}.",
            )
        raise ModelError(f"{model.model_id} is missing: {folder}", how_to_fix(model))

    def refuse_altered(self, models: Iterable[Model]) -> None:
        """Raise ModelError where the files of a recorded model have changed; every file is read."""
        for model in models:
            folder = self.locate(model)
            if digest_model(folder) != model.digest:
                raise ModelError(f"{model.model_id} has changed since it was recorded: {folder}", how_to_fix(model))

    def has(self, model: Model) -> bool:
        """Whether the folder of a recorded model exists."""
        return (self.folder / model.path).is_dir()

    def inside(self, path: Path) -> str:
        """A path as it is recorded: relative where it lies in the workspace, so that the folder can be moved."""
        return str(path.relative_to(self.folder) if path.is_relative_to(self.folder) else path)

    def is_at_work(self) -> bool:
        """Whether a process is using the workspace."""
        try:
            with self.at_work():
                return False
        except WorkspaceHeld:
            return True
        except StoreError:  # nobody is using a folder that cannot be written
            return False

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Lock the workspace for the length of a with block; the lock goes with the process, however it ends.

        Raises WorkspaceHeld where another process has it.
        """
        from filelock import FileLock, Timeout

        if not self.folder.exists():
            hint = "Create one with `flywheel round`, or choose another with --workspace."
            raise StoreError(f"no workspace at {self.folder}", hint)
        note = self.folder / "at-work.pid"
        try:
            lock = FileLock(self.folder / "at-work.lock").acquire(timeout=0)
        except Timeout:
            raise WorkspaceHeld(f"{_holder(note)} is using {self.folder}", "Wait for it, or stop it first.") from None
        except OSError as error:
            if error.errno in FULL:
                raise
            raise StoreError(f"cannot write the workspace {self.folder}: {error.strerror}", "Fix its permissions.") from None
        with lock:
            _write_note(note)
            try:
                yield
            finally:
                note.unlink(missing_ok=True)


def _write_note(note: Path) -> None:
    """Write which process has the lock. Only the lock counts, so a full disk is ignored: the work may be to free space."""
    try:
        write_whole(note, f"{os.getpid()} {socket.gethostname()} {datetime.now().astimezone().isoformat(timespec='seconds')}")
    except OSError as error:
        if error.errno not in FULL:
            raise


def how_to_fix(model: Model) -> str:
    """How to get a missing or changed model back. A part of a reward model is built again once that model is removed, too."""
    if model.kind in (ModelKind.BASE, ModelKind.MEMBER, ModelKind.REWARD):
        return f"{RESTORE}, or remove it together with models/reward-* and run `flywheel reward build`."
    return f"{RESTORE}."


def _holder(note: Path) -> str:
    """Which process has the lock, as the note beside it says. A note that a killed process left does no harm."""
    try:
        number, host, since = note.read_text(encoding="utf-8").split()
        process = int(number)
    except (OSError, ValueError):
        return "another process"
    elsewhere = "" if host == socket.gethostname() else f" on {host}"
    return f"process {process}{elsewhere}, since {since},"
