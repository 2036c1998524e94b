"""The command that writes the HTML report."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli.options import AsJson, named_workspace

app = typer.Typer()


@app.command()
def report(
    out: Annotated[Path, typer.Option("--out", help="The HTML file.")] = Path("report.html"),
    charts: Annotated[
        Path | None, typer.Option("--charts", metavar="DIR", help="Also write each chart to this folder, as SVG and PNG.")
    ] = None,
    tasks: Annotated[
        int | None,
        typer.Option("--tasks", min=0, help="Maximum number of tasks per round; default: what fits into 20 MB."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one HTML page: verdicts, charts, and a browser of all tasks with their candidates."""
    from flywheel.report.page.write import write_report
    from flywheel.report.tables import print_json, print_line

    written = write_report(named_workspace().store, out, tasks=tasks, charts=charts)
    if as_json:
        print_json(asdict(written))
        return
    print_line(f"wrote {written.out}: {written.size / 1e6:.1f} MB, {written.tasks:,} of {written.answered:,} tasks")
    if charts is not None:
        print_line(f"wrote {len(written.charts) // 2} charts to {charts}")
