"""Commands that turn the wheel."""

from __future__ import annotations

import shlex
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from flywheel.cli.options import AsJson, Overrides, Samples, named_workspace
from flywheel.cli.stopping import finishing, interruptible
from flywheel.errors import ConfigError

if TYPE_CHECKING:
    from flywheel.config import Config
    from flywheel.workspace import Workspace

app = typer.Typer()
ConfigOption = Annotated[str | None, typer.Option("--config", help="Preset name or YAML path for a new workspace.")]
Restart = Annotated[bool, typer.Option("--restart", help="Throw an unfinished round away and begin it anew.")]


class Until(StrEnum):
    """What `flywheel round --until` waits for."""

    FLAT = "flat"


class Control(StrEnum):
    """The policies that a control can be trained on."""

    RANDOM = "random"
    MAX_LOGPROB = "max-logprob"
    LONGEST = "longest"
    FIRST = "first"


@app.command()
def init(
    config: Annotated[str, typer.Option("--config", help="Preset name or YAML path.")] = "nano",
    overrides: Overrides = None,
) -> None:
    """Make a workspace with a commented config to edit."""
    from flywheel.config import find

    workspace = named_workspace()
    workspace.init(find(config), overrides or [])
    typer.echo(f"made {workspace.folder}; edit {workspace.config_file}, then `flywheel round`")


@app.command("round")
def round_command(
    n: Samples = None,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Rounds to run.")] = 1,
    until: Annotated[Until | None, typer.Option("--until", help="Stop after evaluation.patience rounds without gain.")] = None,
    control: Annotated[
        Control | None, typer.Option("--control", help="Train and evaluate a generator on other picks, too.")
    ] = None,
    config: ConfigOption = None,
    overrides: Overrides = None,
    restart: Restart = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what one round would do and take; do nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Turn the wheel: build what is missing, run or resume the next round, print its verdict.

    --n and --set hold for this call; edit the workspace's config.yaml for what is to stay.
    """
    from flywheel.report import tables

    if until is not None and repeat == 1:
        raise typer.BadParameter("--until needs --repeat, the most rounds to run: --repeat 10 --until flat")
    sets = [*(overrides or []), *([f"sampling.n={n}"] if n is not None else [])]
    if dry_run:
        _tell_plan(config, sets, restart=restart, as_json=as_json)
        return
    workspace, checked = _prepared(config, sets)
    told = []
    with interruptible():
        from flywheel.evaluation.compare import compare as compare_rounds
        from flywheel.records import Policy
        from flywheel.report.progress import Terminal
        from flywheel.round.budget import Budget
        from flywheel.round.loop import begun_control, turn, turn_control
        from flywheel.round.opening import no_verdict_ahead
        from flywheel.workers.cluster import resources

        _tell_engine(checked)
        if reason := no_verdict_ahead(workspace, checked):
            typer.echo(reason, err=True)

    budget = Budget(checked.budget, checked.prices)
    for turn_number in range(repeat):
        with finishing():
            waiting = begun_control(workspace, Policy(control)) if control is not None and not restart else None
            name = waiting or turn(workspace, checked, Terminal(resources), restart=restart and turn_number == 0, budget=budget)
        told.append(tables.summary(workspace.store.path, name))
        if not as_json:
            if name == "r1":
                tables.print_summary(tables.summary(workspace.store.path, "r0"))
            tables.print_summary(told[-1])
        if control is not None:
            with finishing():
                beside = turn_control(workspace, Policy(control), Terminal(resources), of=name, budget=budget)
            told.append(tables.summary(workspace.store.path, beside))
            if not as_json:
                tables.print_summary(told[-1])
                tables.print_line(compare_rounds(workspace.store, beside, name).sentence)
        if until is not None and (gone := _no_longer_better(workspace, checked)):
            typer.echo(gone, err=True)
            break
    if as_json:
        tables.print_json(told)


def _no_longer_better(workspace: Workspace, config: Config) -> str | None:
    """Why turning on is not worth it: so many rounds in a row did not improve."""
    from flywheel.evaluation.trend import rounds_without_gain
    from flywheel.store import reading

    rows = [row for row in reading.rounds_summary(workspace.store.path).as_dicts() if row["policy"] == "best"]
    count = rounds_without_gain([row["verdict"] for row in rows if row["verdict"]])
    if count < config.evaluation.patience:
        return None
    (best,) = reading.query(workspace.store.path, "SELECT round FROM best_round").rows or [("none",)]
    return f"stopped: {count} rounds in a row are not improved (evaluation.patience); the best is {best[0]}"


@app.command()
def propose(
    tasks: Annotated[int | None, typer.Option("--tasks", min=1, help="Tasks to keep.")] = None,
    config: ConfigOption = None,
    overrides: Overrides = None,
    restart: Restart = False,
    as_json: AsJson = False,
) -> None:
    """Propose the next round's tasks and stop; `flywheel round` goes on with them.

    --tasks and --set hold for this call; the round that goes on with the tasks needs the same.
    """
    from flywheel.report import tables

    sets = [*(overrides or []), *([f"instructions.tasks={tasks}"] if tasks is not None else [])]
    workspace, checked = _prepared(config, sets)
    with interruptible():
        from flywheel.report.progress import Terminal
        from flywheel.round.loop import propose_only
        from flywheel.workers.cluster import resources

        _tell_engine(checked)
    with finishing():
        name = propose_only(workspace, checked, Terminal(resources), restart=restart)
    told = tables.summary(workspace.store.path, name)
    options = [f"--set {shlex.quote(one)}" for one in sets]
    tables.print_json(told) if as_json else tables.print_summary(told, goes_on=" ".join(["flywheel round", *options]))


def _tell_plan(config: str | None, sets: list[str], *, restart: bool, as_json: bool) -> None:
    """Print what one round would do; not even a workspace is made."""
    from flywheel.report.plan import print_plan

    workspace, checked = _configured(config, sets)
    with interruptible():
        from flywheel.estimate.dry_run import dry_run

        plan = dry_run(workspace, checked, restart=restart)
    print_plan(plan, as_json=as_json)


def _tell_engine(config: Config) -> None:
    """Say which engine ``auto`` stands for here."""
    if config.engine.name == "auto":
        from flywheel.engines.generator import choose_engine

        typer.echo(f"{'engine':<22} {choose_engine(config).why}", err=True)


def _prepared(config: str | None, sets: list[str]) -> tuple[Workspace, Config]:
    """The workspace, made where there is none, and its configuration with the overrides."""
    from flywheel.config import find

    workspace, checked = _configured(config, sets)
    if not workspace.exists:
        from flywheel.round.opening import check_inputs

        check_inputs(checked)
        workspace.init(find(config or "nano"))
    return workspace, workspace.config(sets)


def _configured(config: str | None, sets: list[str]) -> tuple[Workspace, Config]:
    """The workspace, which need not be there, and the configuration that it has or would get."""
    from flywheel.config import as_text, find, load

    workspace = named_workspace()
    workspace.refuse_lost_config()
    if not workspace.exists:
        return workspace, load(find(config or "nano"), sets)
    if config is not None and as_text(find(config)) != workspace.config_file.read_text(encoding="utf-8-sig"):
        raise ConfigError(f"{workspace.folder} has its config; edit {workspace.config_file}, or name a new --workspace")
    return workspace, workspace.config(sets)
