"""What `flywheel doctor`, `backup`, `restore` and `prune` print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.filesize import decimal

from flywheel.report.tables import print_json, print_line, print_table
from flywheel.store.checks import Finding
from flywheel.store.reading import Table

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


def print_backup(copy: Copy, *, as_json: bool) -> None:
    """Where a backup is and what is in it, and on stderr what is not."""
    for path in copy.outside:
        typer.echo(f"not in the backup, because it is outside the workspace: {path}", err=True)
    for model in copy.missing:
        typer.echo(f"not in the backup, because its folder is missing: {model} (see `flywheel doctor --deep`)", err=True)
    _print(copy, f"{copy.path}: {_contents(copy)}, {decimal(copy.manifest.size)}, verified", as_json=as_json)


def print_restored(copy: Copy, *, as_json: bool) -> None:
    """What was restored, and on stderr where the workspace that was there before is now."""
    if copy.replaced is not None:
        typer.echo(f"the old workspace is kept as {copy.replaced}", err=True)
    _print(copy, f"restored {copy.path}: {_contents(copy)}, verified", as_json=as_json)


def _contents(copy: Copy) -> str:
    return f"{', '.join(copy.manifest.rounds) or 'no rounds yet'}; {len(copy.manifest.files)} files"


def _print(copy: Copy, line: str, *, as_json: bool) -> None:
    if not as_json:
        print_line(line)
        return
    manifest = {"files": len(copy.manifest.files), "size": copy.manifest.size, "rounds": copy.manifest.rounds}
    replaced = str(copy.replaced) if copy.replaced else None
    print_json({"path": str(copy.path), **manifest, "outside": copy.outside, "missing": copy.missing, "replaced": replaced})


def print_prune(plan: Plan, *, done: bool, as_json: bool) -> None:
    """What a prune removes or has removed, and what it keeps."""
    if as_json:
        removals = [asdict(removal) for removal in plan.removals]
        print_json({"removed": done, "size": plan.size, "removals": removals, "kept": dict(plan.kept)})
        return
    if plan.removals:
        rows = [(removal.path, decimal(removal.size), removal.reason) for removal in plan.removals]
        print_table(Table(columns=("path", "size", "reason"), rows=rows))
    if plan.kept:
        print_line("kept: " + ", ".join(f"{name} ({reason})" for name, reason in plan.kept.items()))
    verb = "removed" if done else "to remove"
    more = "" if done or not plan.removals else "; run `flywheel prune --yes` to remove them"
    print_line(f"{len(plan.removals)} {verb}, {decimal(plan.size)}{more}")
