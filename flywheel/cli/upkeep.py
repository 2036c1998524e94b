"""Commands that maintain a workspace: check it, back it up, restore it, free disk space."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli.options import AsJson, named_workspace

app = typer.Typer()


@app.command()
def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Also check all rows and all models.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check the machine, the versions and the workspace."""
    from flywheel.integrity.doctor import examine
    from flywheel.report import upkeep

    findings = examine(named_workspace(), deep=deep)
    upkeep.print_findings(findings, as_json=as_json)
    if any(not finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def backup(
    to: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    as_json: AsJson = False,
) -> None:
    """Copy the database, the models and the config to a new folder, and verify the copy. A round may be running."""
    from flywheel.integrity.backup import back_up
    from flywheel.report import upkeep

    upkeep.print_copy(back_up(named_workspace(), to), as_json=as_json)


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A folder made by `flywheel backup`.")],
    as_json: AsJson = False,
) -> None:
    """Create a workspace from a backup, verified by its digests. `flywheel round` resumes an unfinished round in it."""
    from flywheel.integrity.backup import restore as restore_backup
    from flywheel.report import upkeep

    upkeep.print_copy(restore_backup(source, named_workspace()), as_json=as_json)


@app.command()
def prune(
    keep: Annotated[list[str] | None, typer.Option("--keep", metavar="ROUND", help="Also keep this round's generator.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is listed.")] = False,
    as_json: AsJson = False,
) -> None:
    """List models of older rounds and leftovers of killed processes; --yes removes them.

    No row is removed. The newest round, the best round, unfinished rounds and r0 keep their models.
    """
    from flywheel.integrity.prune import plan_prune
    from flywheel.integrity.prune import prune as remove
    from flywheel.report import upkeep

    workspace = named_workspace()
    with workspace.at_work():
        plan = plan_prune(workspace, keep=keep or [])
        if yes:
            remove(workspace, plan)
    upkeep.print_prune(plan, done=yes, as_json=as_json)
