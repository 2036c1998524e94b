"""Where things lie on disk: `flywheel.duckdb`, `models/`, `config.yaml`, and who is at work on them."""

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

MADE = re.compile(r"generator-r\d+(-[\w-]+)?|(base|joint|reward|member-.+)-[0-9a-f]{12}")
"""Names of folders that hold what a database recorded."""
PUT_BACK = "put the folder back from a backup (`flywheel --workspace OTHER restore BACKUP` unpacks one)"
"""What to do where a model is gone or altered."""


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
        self.refuse_lost_config()
        self.refuse_lost_database()
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
        self.refuse_lost_config()
        self.refuse_lost_database()
        if not self.exists:
            raise StoreError(f"no workspace at {self.folder}; make one with `flywheel round` or `flywheel init`")
        return load(self.config_file, overrides)

    def refuse_lost_config(self) -> None:
        """Raise StoreError where the configuration of a workspace with models or rounds is gone: none may take its place."""
        if self.exists or not self.store.path.exists():
            return
        self.store.migrate()
        if not self.store.is_empty:
            raise StoreError(
                f"{self.config_file} is gone, but {self.store.path.name} has what was made with it; put the file back (the "
                "column config of the table rounds says what each round ran with), or name another --workspace"
            )

    def refuse_lost_database(self) -> None:
        """Raise StoreError where the database is gone of models that flywheel made: new ones would take their names."""
        if self.store.path.exists() or not self.models.is_dir():
            return
        if made := sorted(path.name for path in self.models.iterdir() if MADE.fullmatch(path.name)):
            raise StoreError(
                f"{self.store.path} is gone, but models/ has {made[0]} and others that it recorded; put it back (`flywheel "
                "restore` a backup), or name another --workspace"
            )

    def locate(self, model: Model) -> Path:
        """The folder of a recorded model; raises ModelError for one that was pruned, or is gone."""
        folder = self.folder / model.path
        if model.pruned_at is not None and not folder.exists():
            raise ModelError(
                f"{model.model_id} was removed by `flywheel prune` on {model.pruned_at:%Y-%m-%d}; a backup made before has it "
                "(`flywheel --workspace OTHER restore BACKUP`)"
            )
        if not folder.exists():
            raise ModelError(f"{model.model_id} is gone from {folder}; {_remedy(model)}")
        return folder

    def refuse_altered(self, models: Iterable[Model]) -> None:
        """Raise ModelError where a recorded model is not what it was when it was recorded; each file is read."""
        for model in models:
            folder = self.locate(model)
            if digest_model(folder) != model.digest:
                raise ModelError(f"{folder} is not what was recorded (its digest has changed); {_remedy(model)}")

    def has(self, model: Model) -> bool:
        """Whether the folder of a recorded model is there."""
        return (self.folder / model.path).is_dir()

    def inside(self, path: Path) -> str:
        """A path as it is recorded: relative where it lies in the workspace, so that the folder can be moved."""
        return str(path.relative_to(self.folder) if path.is_relative_to(self.folder) else path)

    def refuse_if_at_work(self) -> None:
        """Raise WorkspaceHeld where some process has the workspace for itself: who, and since when."""
        try:
            with self.at_work():
                pass
        except WorkspaceHeld:
            raise
        except StoreError:  # it cannot be written, so nobody writes it
            pass

    def is_at_work(self) -> bool:
        """Whether some process has the workspace for itself."""
        try:
            self.refuse_if_at_work()
        except WorkspaceHeld:
            return True
        return False

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Keep other processes from turning the same wheel; the lock goes with the process, however it ends.

        Raises WorkspaceHeld where another process has it.
        """
        from filelock import FileLock, Timeout

        if not self.folder.exists():
            raise StoreError(f"no workspace at {self.folder}; make one with `flywheel round`, or name another with --workspace")
        note = self.folder / "at-work.pid"
        try:
            lock = FileLock(self.folder / "at-work.lock").acquire(timeout=0)
        except Timeout:
            raise WorkspaceHeld(f"{_holder(note)} is at work in {self.folder}; wait for it, or stop it first") from None
        except OSError as error:
            if error.errno in FULL:
                raise
            raise StoreError(f"cannot write the workspace {self.folder}: {error.strerror}; mend the rights") from None
        with lock:
            _say_who(note)
            try:
                yield
            finally:
                note.unlink(missing_ok=True)


def _say_who(note: Path) -> None:
    """Only the lock counts, so a full disk is no reason not to begin: what is begun may be to free some of it."""
    try:
        write_whole(note, f"{os.getpid()} {socket.gethostname()} {datetime.now().astimezone().isoformat(timespec='seconds')}")
    except OSError as error:
        if error.errno not in FULL:
            raise


def _remedy(model: Model) -> str:
    if model.kind in (ModelKind.BASE, ModelKind.MEMBER, ModelKind.REWARD):
        return f"{PUT_BACK}, or remove what is left of it and build it anew with `flywheel reward build`"
    return f"{PUT_BACK}; `flywheel doctor --deep` tells what else is amiss"


def _holder(note: Path) -> str:
    """Who has the lock, as the note beside it says. Only the lock counts: a note that a killed process left stops nobody."""
    try:
        number, host, since = note.read_text(encoding="utf-8").split()
        process = int(number)
    except (OSError, ValueError):
        return "another process"
    if host != socket.gethostname():
        return f"process {process} on {host}, since {since},"
    return f"process {process}, since {since},"
