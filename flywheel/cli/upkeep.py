"""Commands that look after a workspace: check it, back it up, restore it, free space."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli.options import AsJson, named_workspace

app = typer.Typer()


@app.command()
def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Also check every row and every model.")] = False,
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
    to: Annotated[Path, typer.Argument(metavar="DIR_OR_FILE", help="A new folder, or a file that ends in .tar.")],
    as_json: AsJson = False,
) -> None:
    """Copy the database, the models and the config, and verify the copy; a round may be running."""
    from flywheel.integrity.backup import back_up
    from flywheel.report import upkeep

    upkeep.print_backup(back_up(named_workspace(), to), as_json=as_json)


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="A backup made by `flywheel backup`.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a workspace, which is kept under another name.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create a workspace from a backup, verified by its digests; an unfinished round can be resumed in it."""
    from flywheel.integrity.backup import restore as restore_backup
    from flywheel.report import upkeep

    upkeep.print_restored(restore_backup(source, named_workspace(), overwrite=overwrite), as_json=as_json)


@app.command()
def prune(
    keep: Annotated[list[str] | None, typer.Option("--keep", metavar="ROUND", help="Also keep this round's generator.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; without this, only list it.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what is no longer needed, models of older rounds and what killed runs left; --yes removes it.

    The rows stay. The newest round, the best one, unfinished ones and r0 keep their models.
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
