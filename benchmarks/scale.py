"""Time and memory of everything that is ours, from 100 to 100,000 tasks: a round whose models cost nothing.

The generator replays a script of distinct tasks and of outputs, and scores are made of an output's letters; all else is the
real thing: prompts, parsing, every filter that can be on, near-duplicates, selection, the store. Each stage of each size
runs in a process of its own, as a continued round does: its peak of memory is what it holds beyond what was there when it
began (libraries, script, open round). Linux only, for the peaks. `--json` for scripts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import re
import sys
import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import duckdb  # noqa: F401  (imported before the clock starts, as the two below)
import pyarrow  # noqa: F401
import sacrebleu  # noqa: F401
from _measured import Cost, measured, table
from _rounds import begin

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flywheel import config as configuration
from flywheel.core.assets import asset
from flywheel.core.quiet import silence
from flywheel.core.spool import Spooled
from flywheel.engines import generator
from flywheel.engines.contract import Request
from flywheel.engines.generator import sampling_of
from flywheel.instructions.prompts import format_task
from flywheel.records import Facts, Model, ModelKind, Task
from flywheel.report.rounds import summary
from flywheel.reward.text import Answer
from flywheel.round import context
from flywheel.round.context import RoundContext
from flywheel.round.stages.answer import answer, score
from flywheel.round.stages.propose import propose
from flywheel.round.stages.select import select
from flywheel.store import reading
from flywheel.training import training_examples
from flywheel.workspace import Workspace
from tests.instructions.scripts import ScriptedEngine

SIZES = (100, 1_000, 10_000, 100_000)
MEMBERS = ("thumbs", "pairs", "form")
OUTPUTS = 1_000
SETTINGS = (
    "sampling.n=4",
    "instructions.filters.near_duplicate=0.7",
    "instructions.filters.compare=instruction",
    "instructions.filters.held_out_similarity=0.7",
    "instructions.filters.max_words=400",
)


class Letters:
    """A reward model that costs nothing: the same text has the same score, and few have one in common."""

    def score_answers(self, answers: Sequence[Answer]) -> list[float]:
        return [zlib.crc32(one.output.encode()) / 2**32 for one in answers]


def distinct_tasks(count: int) -> Iterator[Task]:
    """Tasks in the words of the general seeds, as often as there, some 12 in an instruction and 25 in an input."""
    rng = random.Random(0)
    rows = [json.loads(line) for line in asset("data/seeds.jsonl").read_text(encoding="utf-8").splitlines()]
    words = re.findall(r"[a-z]+", " ".join(f"{row['instruction']} {row['input']}" for row in rows).lower())
    for _ in range(count):
        said = " ".join(rng.choices(words, k=rng.randint(8, 16)))
        yield Task(instruction=f"{said.capitalize()}.", input=" ".join(rng.choices(words, k=rng.randint(10, 40))))


def prepare(folder: Path, size: int) -> None:
    """A workspace with a script of so many tasks, and its r1 open."""
    rng = random.Random(1)
    outputs = (" ".join(rng.choices(("ant", "bee", "cow", "doe", "elk"), k=rng.randint(5, 40))) for _ in range(OUTPUTS))
    lines = itertools.chain(
        ({"text": f" {format_task(task)}"} for task in distinct_tasks(size + size // 10)),
        ({"text": output, "when": "\nOutput:"} for output in outputs),
    )
    folder.mkdir()
    with (folder / "script.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in lines)
    workspace = Workspace(folder)
    workspace.init(configuration.find("nano"), [*SETTINGS, f"instructions.tasks={size}"])
    members = [Model(kind=ModelKind.MEMBER, name=name, path=name, digest=name * 12) for name in MEMBERS]
    reward = Model(
        kind=ModelKind.REWARD, name="letters", path="letters", digest="letters" * 12,
        facts=Facts(members=tuple(member.model_id for member in members)),
    )  # fmt: skip
    for model in (*members, reward):
        (folder / model.path).mkdir()
        workspace.store.record_model(model)
    begin(workspace, workspace.config(), reward)


def views(run: RoundContext) -> None:
    """What a user looks at after a round."""
    path, name = run.workspace.store.path, run.round.round
    reading.rounds_summary(path)
    summary(path, name)
    reading.query(path, "SELECT count(*), avg(reward), avg(margin) FROM dataset WHERE round = ?", [name])
    reading.query(path, "SELECT * FROM best_of_n_curve WHERE round = ?", [name])


def texts_to_train(run: RoundContext) -> None:
    """What the train stage reads before its trainer starts."""
    store, name = run.workspace.store, run.round.round
    shown = {seed.task.task_id: seed.task for seed in run.seeds}
    proposals = (([shown[demo] for demo in one.demos], one.task) for one in store.tasks(name))
    examples = training_examples(
        Spooled(store.winners([name]), run.workspace.models),
        Spooled(proposals, run.workspace.models),
        run.prompts,
        proposal_share=run.config.training.proposal_share,
        names=(run.config.seed, name, "train"),
    )
    deque(examples, maxlen=0)


def known_tasks(run: RoundContext) -> None:
    """What the next round's filters learn before its first task."""
    assert run.filters.check_text(run.seeds[0].task).reason


STEPS: dict[str, Callable[[RoundContext], None]] = {
    "propose": propose,
    "answer": answer,
    "score": score,
    "select": select,
    "texts to train on": texts_to_train,
    "next round's filters": known_tasks,
    "summaries and views": views,
}


@contextmanager
def begun(folder: Path) -> Iterator[RoundContext]:
    """The unfinished r1 with all loaded that is no cost of a step."""
    workspace = Workspace(folder)
    with (folder / "script.jsonl").open(encoding="utf-8") as file:
        engine = ScriptedEngine(map(json.loads, file))
    scores = mock.patch.object(context, "load_scorer", return_value=Letters())
    with scores, mock.patch.object(generator, "load", return_value=engine):
        run = begin(workspace, workspace.config(), workspace.store.models(ModelKind.REWARD)[0])
        request = Request(prompts=["a"], n=1, sampling=sampling_of(run.config), seed=0)
        _ = list(run.generate([request])), run.prompts, run.seeds, run.held_out
        yield run


def counted(folder: Path) -> tuple[int, int]:
    """Tasks and winners of the finished r1."""
    (row,) = reading.query(Workspace(folder).store.path, "SELECT kept, winners FROM rounds_summary WHERE round = 'r1'").rows
    return row[0], row[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    silence()
    costs: dict[tuple[str, int], Cost] = {}
    file_mib: dict[int, float] = {}
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root) / "workspace"
            measured(prepare, folder, size)
            for step in STEPS:
                costs[step, size] = measured(STEPS[step], folder, ready=begun)
            file_mib[size] = Workspace(folder).store.path.stat().st_size / 2**20
            if counted(folder) != (size, size):
                sys.exit(f"{size:,} tasks were asked for, {counted(folder)} were kept and won")
    if arguments.json:
        told = [{"step": step, "tasks": size} | asdict(cost) for (step, size), cost in costs.items()]
        print(json.dumps({"costs": told, "file_mib": file_mib, "cores": os.cpu_count()}))
        return
    sizes = arguments.sizes
    print(f"n = 4, {os.cpu_count()} cores, {platform.machine()}, each step once in a process of its own")
    per_thousand = {step: [f"{1000 * costs[step, size].seconds / size:.3f}" for size in sizes] for step in STEPS}
    wholes = [sum(costs[step, size].seconds for step in STEPS) for size in sizes]
    per_thousand["together"] = [f"{1000 * whole / size:.3f}" for whole, size in zip(wholes, sizes, strict=True)]
    columns = [f"{size:,}" for size in sizes]
    table("s per 1,000 tasks", columns, per_thousand)
    table("MiB beyond the start", columns, {step: [f"{costs[step, size].growth_mib:.0f}" for size in sizes] for step in STEPS})
    table("", columns, {"MiB of the database": [f"{file_mib[size]:.1f}" for size in sizes]})


if __name__ == "__main__":
    main()
