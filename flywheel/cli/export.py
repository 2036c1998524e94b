"""The command that exports a round's winners."""

from __future__ import annotations

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
        Shape | None, typer.Option("--shape", help="Form of a row; default columns, with --pairs prompt-completion.")
    ] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="Best and worst output of each task, as preference pairs.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also the rounds before it.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    push_to: Annotated[
        str | None, typer.Option("--push", metavar="OWNER/NAME", help="Upload it to the Hugging Face hub.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Make the pushed dataset public; default private.")] = False,
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
        typer.echo(f"{', '.join(done.unfinished)} is not finished, so there is no verdict on training with it", err=True)
    if done.changed:
        typer.echo(f"the prompt templates changed after {', '.join(done.changed)} ran; the card says so", err=True)
    rows = sum(done.rows.values())
    if as_json:
        pushed = {"url": done.pushed.url, "private": done.pushed.private} if done.pushed else None
        about = {"format": str(form), "shape": str(options.row_shape), "pairs": pairs, "files": done.files}
        about |= {"unfinished": done.unfinished, "changed_templates": done.changed, "pushed": pushed}
        tables.print_json({"folder": done.folder, "rows": rows, "rounds": done.rows} | about)
        return
    tables.print_line(
        f"{rows:,} {'pairs' if pairs else 'rows'} of {', '.join(done.rows)} in {done.folder}: {', '.join(done.files)}"
    )
    if done.pushed:
        tables.print_line(f"pushed to {done.pushed.url} ({'private' if done.pushed.private else 'public'})")
