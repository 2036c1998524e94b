"""Commands that show rounds, run SQL, and sample from the latest generator."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from flywheel.cli.options import AsJson, Constraints, Input, Instruction, RoundName, Samples, named_workspace, opened

app = typer.Typer()
Format = Literal["table", "csv", "json", "parquet"]


@app.command()
def compare(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The round to compare against, such as r1.")],
    name: RoundName,
    as_json: AsJson = False,
) -> None:
    """Report whether ROUND is better than BASE, with the evidence."""
    from flywheel.evaluation.best_of_n import curve_of, policies_of
    from flywheel.report import comparison as report
    from flywheel.report import tables

    workspace = opened()
    comparison, store = workspace.compare(base, name), workspace.workspace.store
    compared = next(row for row in store.rounds(controls=True) if row.round == name)
    policies, curve = policies_of(store, compared), curve_of(store, compared)
    if as_json:
        about = {"policies": [asdict(policy) for policy in policies], "curve": asdict(curve) if curve else None}
        tables.print_json(comparison.as_json() | about)
    else:
        report.print_comparison(comparison, policies, curve)


@app.command()
def trend(as_json: AsJson = False) -> None:
    """Show every round's verdict against its parent and against r0, corrected for the number of comparisons."""
    from flywheel.report import tables
    from flywheel.report.comparison import print_trend

    found = opened().trend()
    tables.print_json(found.as_json()) if as_json else print_trend(found)


@app.command()
def rounds(as_json: AsJson = False) -> None:
    """List the rounds: counts, held-out figures, verdicts."""
    from flywheel.report import tables
    from flywheel.store import reading

    table = reading.rounds_summary(named_workspace().store.path)
    tables.print_json(table.as_dicts()) if as_json else tables.print_table(table)


@app.command()
def show(
    name: RoundName,
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="Task id, or the start of one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a round, or one of its tasks with all candidates and scores."""
    from flywheel.report import rounds as report
    from flywheel.report import tables
    from flywheel.store import reading

    if task is not None:
        found = reading.task(named_workspace().store.path, name, task)
        tables.print_json(found.as_dicts()) if as_json else report.print_task(found)
        return
    summary = opened()[name].summary
    tables.print_json(summary) if as_json else report.print_round(summary)


@app.command()
def sql(
    statement: Annotated[
        str, typer.Argument(metavar="STATEMENT", help="SQL, such as 'FROM dataset'; `flywheel schema` lists all tables.")
    ],
    form: Annotated[
        Format, typer.Option("--format", help="Format of the rows; default with --out: that of its suffix.")
    ] = "table",
    out: Annotated[Path | None, typer.Option("--out", help="File to write the rows to.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a read-only SQL statement."""
    from flywheel.report import tables
    from flywheel.store import reading

    tables.print_as(reading.query(named_workspace().store.path, statement), "json" if as_json else form, out)


@app.command()
def sample(
    instruction: Instruction,
    text: Input = "None",
    constraints: Constraints = "None",
    n: Samples = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Random seed.")] = None,
    as_json: AsJson = False,
) -> None:
    """Sample N outputs for one task from the latest generator, ranked by the reward model."""
    from flywheel.records import Task
    from flywheel.report import rounds as report
    from flywheel.report import tables

    settings = {"sampling.n": n, "seed": seed}
    workspace = opened([f"{key}={value}" for key, value in settings.items() if value is not None])
    (ranked,) = workspace.sample([Task(instruction=instruction, input=text, constraints=constraints)])
    table = report.ranked_table(ranked.candidates)
    tables.print_json(table.as_dicts()) if as_json else tables.print_table(table)


@app.command()
def schema(as_json: AsJson = False) -> None:
    """List all tables and views with their columns and descriptions."""
    from flywheel.report import tables
    from flywheel.store import reading

    table = reading.schema(named_workspace().store.path)
    tables.print_json(table.as_dicts()) if as_json else tables.print_schema(table)
