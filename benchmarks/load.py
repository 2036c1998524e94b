"""How time, memory and file grow with a round: from 10,000 tasks to 1,000,000 with 4,000,000 candidates, each step once.

    python benchmarks/load.py [--sizes 10000 100000 1000000] [--candidates 4] [--held-out 5000] [--chunk 1024] [--json]

The records are scripted, the store is the real one, and whatever is read is read by the methods and commands that flywheel
itself uses. Every step of every size runs in a process of its own: its peak of memory is its own. Linux only, for the peaks.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import duckdb  # noqa: F401  (imported before the clock starts, as the two below)
import pyarrow.parquet  # noqa: F401
from _filled import REWARD, Size, Written, fill
from _measured import Cost, measured, slope, table

from flywheel import config as configuration
from flywheel.core.quiet import silence
from flywheel.evaluation.best_of_n import curve_of, policies_of
from flywheel.evaluation.compare import compare
from flywheel.evaluation.trend import trend
from flywheel.export.export import export
from flywheel.export.shapes import ExportOptions, Format, Shape
from flywheel.records import Stage
from flywheel.report.page.write import write_report
from flywheel.round.selection import select_all
from flywheel.store import reading
from flywheel.store.store import BLOCK
from flywheel.workspace import Workspace

SIZES = (10_000, 100_000, 1_000_000)
NAME = "r1"


def consume(rows: object) -> None:
    """Go through rows and keep none."""
    deque(rows, maxlen=0)  # type: ignore[call-overload]


def ask(sql: str) -> Callable[[Workspace], None]:
    """What a user types."""
    return lambda workspace: consume(reading.query(workspace.store.path, sql).rows)


def positions(workspace: Workspace) -> None:
    """What a stage asks before it goes on where it was stopped."""
    store = workspace.store
    for stage in (Stage.PROPOSE, Stage.ANSWER, Stage.SCORE):
        store.progress(NAME, stage)
    store.proposed_so_far(NAME)
    store.spans(NAME, 1_024)


def scored(workspace: Workspace) -> None:
    """What the select stage reads and makes, block by block."""
    for attempts in workspace.store.spans(NAME, BLOCK):
        select_all(workspace.store.scored(NAME, REWARD.model_id, attempts), 0, NAME)


def answered(workspace: Workspace) -> None:
    """What the score stage reads, block by block."""
    for attempts in workspace.store.spans(NAME, BLOCK):
        workspace.store.tasks_of(NAME, attempts)
        workspace.store.candidates(NAME, attempts)


def exported(workspace: Workspace, *, form: Format, pairs: bool = False) -> None:
    with tempfile.TemporaryDirectory(dir=workspace.folder) as folder:
        shape = Shape.MESSAGES if pairs else Shape.COLUMNS
        export(workspace, ExportOptions(name=NAME, to=Path(folder) / "out", form=form, shape=shape, pairs=pairs))


STEPS: dict[str, Callable[[Workspace], object]] = {
    "where a stage goes on": positions,
    "tasks": lambda workspace: consume(workspace.store.tasks(NAME)),
    "winners": lambda workspace: consume(workspace.store.winners([NAME])),
    "score reads": answered,
    "select reads and picks": scored,
    "dataset, counted": ask("SELECT count(*), avg(reward), avg(margin) FROM dataset"),
    "dataset, its best 10": ask("SELECT * FROM dataset ORDER BY reward DESC LIMIT 10"),
    "generations, counted": ask("SELECT round, count(*), avg(reward) FROM generations GROUP BY ALL"),
    "rounds_summary": ask("SELECT * FROM rounds_summary"),
    "best_of_n_curve": ask("SELECT * FROM best_of_n_curve"),
    "policies": ask("SELECT * FROM policies"),
    "compare": lambda workspace: compare(workspace.store, "r0", NAME),
    "picks and curve": lambda workspace: [
        call(workspace.store, workspace.store.rounds()[1]) for call in (policies_of, curve_of)
    ],
    "trend": lambda workspace: trend(workspace.store),
    "export parquet": partial(exported, form=Format.PARQUET),
    "export jsonl": partial(exported, form=Format.JSONL),
    "export hf": partial(exported, form=Format.HF),
    "export hf --pairs": partial(exported, form=Format.HF, pairs=True),
    "report": lambda workspace: write_report(workspace.store, workspace.folder / "report.html"),
}


def make(folder: Path, size: Size) -> dict[str, Written]:
    """A workspace with a full store."""
    workspace = Workspace(folder)
    folder.mkdir(parents=True)
    workspace.init(configuration.find("nano"), [])
    return fill(workspace.store, size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--held-out", type=int, default=5_000)
    parser.add_argument("--chunk", type=int, default=1_024)
    parser.add_argument("--keep", type=Path, help="a folder for the stores, which are used again where they are there")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    silence()
    filled: dict[int, Cost] = {}
    costs: dict[str, dict[int, Cost]] = {step: {} for step in chosen.steps}
    files: dict[int, float] = {}
    for tasks in chosen.sizes:
        with tempfile.TemporaryDirectory() as root:
            folder = (chosen.keep or Path(root)) / f"tasks-{tasks}"
            size = Size(tasks=tasks, candidates=chosen.candidates, held_out=chosen.held_out, chunk=chosen.chunk)
            if not folder.exists():
                filled[tasks] = measured(make, folder, size)
            files[tasks] = Workspace(folder).store.path.stat().st_size / 2**20
            for step in chosen.steps:
                costs[step][tasks] = measured(STEPS[step], Workspace(folder))
                cost = costs[step][tasks]
                told = f"{cost.seconds:.2f} s, {cost.busy:.2f} s of processor time, {cost.peak_mib:,.0f} MiB"
                print(f"{tasks:,} {step}: {told}", file=sys.stderr, flush=True)
    if chosen.json:
        steps = {step: {tasks: asdict(cost) for tasks, cost in by.items()} for step, by in costs.items()}
        print(json.dumps({"steps": steps, "files": files}))
        return
    _print(chosen.sizes, filled, costs, files)


def _print(sizes: Sequence[int], filled: dict[int, Cost], costs: dict[str, dict[int, Cost]], files: dict[int, float]) -> None:
    print(f"{os.cpu_count()} cores, {platform.machine()}, each step once in a process of its own")
    columns = [f"{size:,}" for size in sizes]
    made = [size for size in sizes if size in filled]
    if made:
        stages = filled[made[0]].told
        rates = {stage: [_rate(filled[size].told[stage]) for size in made] for stage in stages}
        table("rows/s written", [f"{size:,}" for size in made], rates)
        table("", [f"{size:,}" for size in made], {"peak MiB": [f"{filled[size].peak_mib:,.0f}" for size in made]})
    table("", columns, {"MiB of the database": [f"{files[size]:,.1f}" for size in sizes]})
    grown = len(sizes) > 1

    def told(values: list[float]) -> list[str]:
        return [*(f"{one:.2f}" for one in values), *([f"{slope(sizes, values):.2f}"] if grown else [])]

    head = [*columns, "slope"][: len(sizes) + grown]
    table("seconds", head, {step: told([by[size].seconds for size in sizes]) for step, by in costs.items()})
    table("seconds of processor time", head, {step: told([by[size].busy for size in sizes]) for step, by in costs.items()})
    table("peak MiB", columns, {step: [f"{by[size].peak_mib:,.0f}" for size in sizes] for step, by in costs.items()})


def _rate(written: Written) -> str:
    return f"{written.rows / written.seconds:,.0f}"


if __name__ == "__main__":
    main()
