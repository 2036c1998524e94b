"""Commands that run rounds."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flywheel.cli.options import AsJson, Overrides, Samples, opened
from flywheel.cli.stopping import finishing

if TYPE_CHECKING:
    from flywheel.api import Flywheel, Round

app = typer.Typer()
ConfigOption = Annotated[str | None, typer.Option("--config", help="Preset name or YAML path for a new workspace.")]
Restart = Annotated[bool, typer.Option("--restart", help="Discard an unfinished round and start it over.")]


@app.command()
def init(
    config: Annotated[str, typer.Option("--config", help="Preset name or YAML path.")] = "nano",
    overrides: Overrides = None,
) -> None:
    """Create a workspace with a commented config to edit."""
    workspace = opened(overrides)
    workspace.create(config)
    typer.echo(f"created {workspace.workspace.folder}; edit {workspace.workspace.config_file}, then run `flywheel round`")


@app.command("round")
def round_command(
    n: Samples = None,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Number of rounds to run.")] = 1,
    until: Annotated[
        Literal["flat"] | None,
        typer.Option("--until", help="Stop after evaluation.patience rounds without gain; requires --repeat."),
    ] = None,
    control: Annotated[
        Literal["random", "max-logprob", "longest", "first"] | None,
        typer.Option("--control", help="Also train and evaluate a generator on the candidates that another policy selects."),
    ] = None,
    config: ConfigOption = None,
    overrides: Overrides = None,
    restart: Restart = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report what one round would do and need, and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run or resume the next round, building whatever is missing first, and print its verdict.

    --n and --set apply to this call only; edit the workspace's config.yaml to change a setting permanently.
    """
    from flywheel.api import check_until
    from flywheel.report import tables

    check_until(until, repeat)
    workspace = opened([*(overrides or []), *([f"sampling.n={n}"] if n is not None else [])])
    if dry_run:
        from flywheel.estimate import dry_run as estimate
        from flywheel.report.plan import print_plan

        plan = estimate.dry_run(workspace.workspace, workspace.configured(config), restart=restart)
        print_plan(plan, as_json=as_json)
        return
    _prepare(workspace, config)
    show = (lambda finished: None) if as_json else lambda finished: _print_round(workspace, finished)
    with finishing():
        rounds = workspace.round(repeat=repeat, until=until, control=control, restart=restart, on_round=show)
    if as_json:
        tables.print_json([finished.summary for finished in rounds if finished.name != "r0"])


@app.command()
def propose(
    tasks: Annotated[int | None, typer.Option("--tasks", min=1, help="Number of tasks to keep.")] = None,
    config: ConfigOption = None,
    overrides: Overrides = None,
    restart: Restart = False,
    as_json: AsJson = False,
) -> None:
    """Propose the next round's tasks and stop; `flywheel round` resumes with them.

    --tasks and --set apply to this call only; pass the same settings to the `flywheel round` that resumes.
    """
    from flywheel.report import rounds as report
    from flywheel.report import tables

    settings = [*(overrides or []), *([f"instructions.tasks={tasks}"] if tasks is not None else [])]
    workspace = opened(settings)
    _prepare(workspace, config)
    with finishing():
        proposed = workspace.propose(restart=restart).summary
    resume = " ".join(["flywheel round", *(f"--set {shlex.quote(setting)}" for setting in settings)])
    tables.print_json(proposed) if as_json else report.print_summary(proposed, resume=resume)


def _prepare(workspace: Flywheel, config: str | None) -> None:
    """Create the workspace if it is missing, and print what a user should know before the round starts."""
    from flywheel.round.checks import why_no_verdict

    checked = workspace.ensure(config)
    if checked.engine.name == "auto":
        from flywheel.engines.generator import choose_engine

        typer.echo(f"{'engine':<22} {choose_engine(checked).why}", err=True)
    if reason := why_no_verdict(workspace.workspace, checked):
        typer.echo(reason, err=True)


def _print_round(workspace: Flywheel, finished: Round) -> None:
    from flywheel.report import rounds as report
    from flywheel.report import tables

    report.print_summary(finished.summary)
    if finished.summary["policy"] != "best":
        tables.print_line(workspace.compare(finished.name, finished.name.partition("-")[0]).sentence)
