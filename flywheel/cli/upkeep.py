"""Commands that take care of a workspace: whether all in it is sound, copies of it, the space that it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli.options import AsJson, named_workspace

app = typer.Typer()


@app.command()
def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Check every row and every model, too.")] = False,
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
    """Copy the database, the models and the config, also while a round runs; what is written is verified."""
    from flywheel.integrity.backup import back_up
    from flywheel.report import upkeep

    upkeep.print_backup(back_up(named_workspace(), to), as_json=as_json)


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="What `flywheel backup` made.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Take the place of a workspace, which is kept beside.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a workspace of a backup, verified by its digests; an unfinished round goes on in it."""
    from flywheel.integrity.backup import restore as restore_backup
    from flywheel.report import upkeep

    upkeep.print_restored(restore_backup(source, named_workspace(), overwrite=overwrite), as_json=as_json)


@app.command()
def prune(
    keep: Annotated[list[str] | None, typer.Option("--keep", metavar="ROUND", help="Keep its generator, too.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; without, it is only told.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tell what nothing needs any more: models of older rounds, and what killed runs left; --yes removes it.

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
