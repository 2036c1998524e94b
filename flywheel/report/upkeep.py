"""What `flywheel doctor`, `backup`, `restore` and `prune` print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.filesize import decimal

from flywheel.report.tables import print_json, print_line, print_rows
from flywheel.store.checks import Finding

if TYPE_CHECKING:
    from flywheel.integrity.backup import Copy
    from flywheel.integrity.prune import Plan


def print_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """The findings of all checks, with hints for the problems."""
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        print_line(f"{'ok' if finding.ok else '!!'}  {finding.check:<{width}}  {finding.message}".rstrip())
        if not finding.ok and finding.hint:
            print_line(f"{'':<{width + 6}}{finding.hint}")


def print_copy(copy: Copy, *, as_json: bool) -> None:
    """What is in a backup or in the workspace restored from it, and on stderr what is missing."""
    for path in copy.outside:
        typer.echo(f"not in the backup, because it is outside the workspace: {path}", err=True)
    for model in copy.missing:
        typer.echo(f"not in the backup, because its folder is missing: {model} (see `flywheel doctor --deep`)", err=True)
    manifest = copy.manifest
    if as_json:
        about = {"path": str(copy.path), "files": len(manifest.files), "size": manifest.size, "rounds": manifest.rounds}
        print_json(about | {"outside": copy.outside, "missing": copy.missing})
    else:
        rounds = ", ".join(manifest.rounds) or "no rounds yet"
        print_line(f"{copy.path}: {rounds}; {len(manifest.files)} files, {decimal(manifest.size)}, verified")


def print_prune(plan: Plan, *, done: bool, as_json: bool) -> None:
    """What a prune removes or has removed, and what it keeps."""
    if as_json:
        removals = [asdict(removal) for removal in plan.removals]
        print_json({"removed": done, "size": plan.size, "removals": removals, "kept": dict(plan.kept)})
        return
    if plan.removals:
        rows = [(removal.path, decimal(removal.size), removal.reason) for removal in plan.removals]
        print_rows(("path", "size", "reason"), rows)
    if plan.kept:
        print_line("kept: " + ", ".join(f"{name} ({reason})" for name, reason in plan.kept.items()))
    verb = "removed" if done else "to remove"
    more = "" if done or not plan.removals else "; add --yes to remove them"
    print_line(f"{len(plan.removals)} paths {verb}, {decimal(plan.size)}{more}")
