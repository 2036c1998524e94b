"""Commands that tell what the wheel did, and use what came of it."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli.options import AsJson, Samples, named_workspace

app = typer.Typer()


class Format(StrEnum):
    """How `flywheel sql` prints rows."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


@app.command()
def compare(base: str, name: Annotated[str, typer.Argument(metavar="ROUND")], as_json: AsJson = False) -> None:
    """Tell whether ROUND is better than BASE, with the evidence."""
    from flywheel.evaluation.best_of_n import curve_of, policies_of
    from flywheel.evaluation.compare import compare as compare_rounds
    from flywheel.report import tables

    store = named_workspace().store
    comparison = compare_rounds(store, base, name)
    made = next(one for one in store.rounds(controls=True) if one.round == name)
    policies, curve = policies_of(store, made), curve_of(store, made)
    if as_json:
        told = {"policies": [asdict(one) for one in policies], "curve": asdict(curve) if curve else None}
        tables.print_json(comparison.as_json() | told)
    else:
        tables.print_comparison(comparison, policies, curve)


@app.command()
def trend(as_json: AsJson = False) -> None:
    """Tell every round's verdict against the one before and against the first, corrected for their number."""
    from flywheel.evaluation.trend import trend as trend_of
    from flywheel.report import tables

    found = trend_of(named_workspace().store)
    if as_json:
        tables.print_json(found.as_json())
    else:
        tables.print_trend(found)


@app.command()
def rounds(as_json: AsJson = False) -> None:
    """List the rounds: counts, held-out figures, verdicts."""
    from flywheel.report import tables
    from flywheel.store import reading

    table = reading.rounds_summary(named_workspace().store.path)
    tables.print_json(table.as_dicts()) if as_json else tables.print_table(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="ROUND")],
    task: Annotated[str | None, typer.Argument(help="Task id, or its beginning.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show one round, or one task of it with all its candidates and scores."""
    from flywheel.report import tables
    from flywheel.store import reading

    path = named_workspace().store.path
    if task is not None:
        found = reading.task(path, name, task)
        tables.print_json(found.as_dicts()) if as_json else tables.print_task(found)
        return
    told = tables.summary(path, name)
    tables.print_json(told) if as_json else tables.print_round(told)


@app.command()
def sql(
    statement: str,
    form: Annotated[Format, typer.Option("--format", help="How to print the rows.")] = Format.TABLE,
    out: Annotated[Path | None, typer.Option("--out", help="Write to a file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a SQL statement that reads."""
    from flywheel.report import tables
    from flywheel.store import reading

    tables.print_as(reading.query(named_workspace().store.path, statement), "json" if as_json else form.value, out)


@app.command()
def sample(
    instruction: str,
    text: Annotated[str, typer.Option("--input", help="The input of the task.")] = "None",
    constraints: Annotated[str, typer.Option("--constraints", help="The constraints on the output.")] = "None",
    n: Samples = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Another draw.")] = None,
    as_json: AsJson = False,
) -> None:
    """Answer one task N times with the latest generator, ranked by the reward model."""
    from flywheel.records import Task
    from flywheel.report import tables
    from flywheel.round.sampling import best_of

    workspace = named_workspace()
    sets = [*([f"sampling.n={n}"] if n is not None else []), *([f"seed={seed}"] if seed is not None else [])]
    config = workspace.config(sets)
    task = Task(instruction=instruction, input=text, constraints=constraints)
    table = tables.ranked_table(best_of(workspace, config, task, n=config.sampling.n))
    tables.print_json(table.as_dicts()) if as_json else tables.print_table(table)


@app.command()
def schema(as_json: AsJson = False) -> None:
    """Explain the tables and views that SQL can read."""
    from flywheel.report import tables
    from flywheel.store import reading

    table = reading.schema(named_workspace().store.path)
    tables.print_json(table.as_dicts()) if as_json else tables.print_schema(table)
