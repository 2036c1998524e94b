"""The command that exports a round's winners."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli.options import AsJson, RoundName, named_workspace
from flywheel.export.shapes import ExportOptions, Format, Shape

app = typer.Typer()


@app.command("export")
def export_command(
    name: RoundName,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder to write.")],
    form: Annotated[
        Format,
        typer.Option("--format", help="hf: shards as on the hub; partitioned: a folder per round; parquet, jsonl: one file."),
    ] = Format.HF,
    shape: Annotated[
        Shape | None, typer.Option("--shape", help="Layout of a row; default: columns, or prompt-completion with --pairs.")
    ] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="Export preference pairs: best and worst output of a task.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also export all earlier rounds.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    push_to: Annotated[
        str | None, typer.Option("--push", metavar="OWNER/NAME", help="Upload the dataset to the Hugging Face Hub.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Make the uploaded dataset public; default: private.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the winners of a round as a dataset with a card, for `datasets.load_dataset`."""
    from flywheel.export.export import export
    from flywheel.report import tables

    options = ExportOptions(
        name=name, to=to, form=form, shape=shape, pairs=pairs, everything=everything, overwrite=overwrite,
        push_to=push_to, public=public,
    )  # fmt: skip
    done = export(named_workspace(), options)
    if done.unfinished:
        typer.echo(f"not finished, so not evaluated yet: {', '.join(done.unfinished)}", err=True)
    if done.changed:
        typer.echo(f"prompt templates have changed since {', '.join(done.changed)} (see the dataset card)", err=True)
    if as_json:
        tables.print_json(asdict(done) | {"format": form, "shape": options.row_shape, "pairs": pairs})
        return
    rows = f"{sum(done.rows.values()):,} {'pairs' if pairs else 'rows'}"
    tables.print_line(f"{rows} of {', '.join(done.rows)} in {done.folder}: {', '.join(done.files)}")
    if done.pushed:
        tables.print_line(f"pushed to {done.pushed.url} ({'private' if done.pushed.private else 'public'})")
