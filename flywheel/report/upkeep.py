"""What the commands that take care of a workspace print."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from flywheel.report.tables import print_json, print_line, print_table
from flywheel.store.reading import Table

if TYPE_CHECKING:
    from flywheel.integrity.backup import Copied
    from flywheel.integrity.prune import Plan

KILO = 1000


def megabytes(size: float) -> str:
    """A size as people read it, in steps of a thousand."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < KILO:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= KILO
    return f"{size:.1f} TB"


def print_backup(made: Copied, *, as_json: bool) -> None:
    """Where it is, what is in it, and on stderr what is not."""
    for path in made.outside:
        typer.echo(f"not in it, because it lies outside the workspace: {path}", err=True)
    for model in made.lost:
        typer.echo(f"not in it, because its folder is gone: {model}; `flywheel doctor --deep` tells what to do", err=True)
    if as_json:
        print_json(_plain(made))
        return
    print_line(
        f"{made.path}: {', '.join(made.rounds) or 'no rounds yet'}; {made.files} files, {megabytes(made.size)}, verified"
    )


def print_restored(made: Copied, *, as_json: bool) -> None:
    """What was restored, and on stderr where the workspace is now that was there before."""
    if made.replaced is not None:
        typer.echo(f"what was there before is kept as {made.replaced}", err=True)
    if as_json:
        print_json(_plain(made))
        return
    print_line(f"restored {made.path}: {', '.join(made.rounds) or 'no rounds yet'}; {made.files} files, verified")


def _plain(made: Copied) -> dict[str, Any]:
    return asdict(made) | {"path": str(made.path), "replaced": str(made.replaced) if made.replaced else None}


def print_prune(plan: Plan, *, done: bool, as_json: bool) -> None:
    """What goes or went, how much that is, and what stays."""
    if as_json:
        print_json({"removed": done, "size": plan.size, "freed": [asdict(one) for one in plan.freed], "kept": dict(plan.kept)})
        return
    if plan.freed:
        print_table(
            Table(columns=("what", "size", "why"), rows=[(one.path, megabytes(one.size), one.why) for one in plan.freed])
        )
    if plan.kept:
        print_line("kept: " + ", ".join(f"{name} ({why})" for name, why in plan.kept.items()))
    verb = "removed" if done else "to remove"
    more = "" if done or not plan.freed else "; `flywheel prune --yes` does it"
    print_line(f"{len(plan.freed)} {verb}, {megabytes(plan.size)}{more}")
