"""What a Ray cluster costs and gives, on one machine: the rate of workers, the fixed seconds, and a million tasks to the store.

    python benchmarks/cluster.py [--workers 1 2] [--chunks 4 24 60] [--tasks 1000000] [--json]

The first part writes answers with nano: two sizes tell apart what grows with the chunks and what does not, and with that
what a third takes, which is then measured.
The second takes so many tasks with 4 candidates each through two steps that cost nothing, and the real store; then every row
is compared with what it must be, in SQL. 0 tasks leave it out. Needs Ray (`make test-ray` sets it up). Linux only, for the
peaks of memory.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import duckdb  # noqa: F401  (imported before the clock starts, as the next one)
import pyarrow  # noqa: F401
from _filled import Texts
from _measured import Cost, measured, memory, table
from _rounds import begin

from flywheel import config as configuration
from flywheel.config import EngineConfig
from flywheel.core.assets import asset
from flywheel.core.files import digest_model
from flywheel.core.quiet import silence
from flywheel.engines.contract import Request, Sampling
from flywheel.engines.factory import load
from flywheel.instructions.prompts import Prompts
from flywheel.nano.tasks import held_out_tasks
from flywheel.records import Chunk, Completion, Facts, FinishReason, Model, ModelKind, Proposal, Stage, Task
from flywheel.round.context import RoundContext
from flywheel.round.stage import open_stage
from flywheel.round.stages.answer import answer_and_score as stages_answer_and_score
from flywheel.store import reading
from flywheel.workers.pools import Pool, Stored, start_engine
from flywheel.workers.work import Step, Work, generate
from flywheel.workspace import Workspace

CHUNK, N = 512, 4
MILLION_CHUNK = 1_024
SAMPLING = Sampling(temperature=1.0, top_p=1.0, max_tokens=16)
NANO = asset("data/nano/generator")
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What some workers did: so many candidates a second, after so many seconds that there are always."""

    candidates_per_second: float
    fixed_seconds: float
    off: float
    """By which share a third size took longer than the two others say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Writes the task's name into each of its candidates: rows can be told right from wrong."""

    def start(self) -> Callable[[Work], Work]:
        def do(work: Work) -> Work:
            assert work.request is not None
            return replace(work, completions=[[_completion(task, n) for n in range(work.request.n)] for task in work.tasks])

        return do


def _completion(task: Task, one: int) -> Completion:
    text = f"{task.task_id} {one} {'word ' * (5 + one)}".strip()
    return Completion(text=text, tokens=9, finish_reason=FinishReason.STOP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Gives each text its length."""

    def start(self) -> Callable[[Work], Work]:
        return lambda work: replace(work, scores=[float(len(one.text)) for group in work.completions for one in group])


def work(chunks: int) -> Iterator[Work]:
    """Prompts of nano's own world, chunk by chunk."""
    prompts, tasks = Prompts(asset("prompts")), itertools.cycle(held_out_tasks())
    for seed in range(chunks):
        asked = [prompts.answer(task) for task in itertools.islice(tasks, CHUNK)]
        yield Work(request=Request(prompts=asked, n=N, sampling=SAMPLING, seed=seed))


@contextmanager
def cluster(cores: int) -> Iterator[None]:
    """A cluster of one node, joined."""
    import ray
    from ray.cluster_utils import Cluster

    from flywheel.workers.joining import connect

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": cores, "include_dashboard": False})
    try:
        connect(made.address)
        yield
    finally:
        ray.shutdown()
        made.shutdown()


def fitted(seconds: Sequence[float], chunks: Sequence[int]) -> Rate:
    """The line through the first two sizes, and how far the third is off it."""
    (less, more, most), (few, many, check) = seconds, chunks
    each = (more - less) / (many - few)
    fixed = less - few * each
    return Rate(candidates_per_second=CHUNK * N / each, fixed_seconds=fixed, off=most / (fixed + check * each) - 1)


def on_ray(workers: int, chunks: Sequence[int], cache: Path) -> Rate:
    """So many workers of one core each."""
    from flywheel.workers.ray_workers import RayWorkers

    generator = Stored(folder=NANO, digest=digest_model(NANO))
    start = partial(start_engine, EngineConfig(name="ctranslate2", workers=1), generator, cache)
    ray_workers = RayWorkers({Step.GENERATE: Pool(start=start, size=workers, cpus=1, gpus=0)}, retries=0)
    seconds = []
    with cluster(workers):
        deque(ray_workers.run(work(1), Step.GENERATE), maxlen=0)  # converts the weights, and starts Ray's own processes
        for count in chunks:
            started = time.perf_counter()
            deque(ray_workers.run(work(count), Step.GENERATE), maxlen=0)
            seconds.append(time.perf_counter() - started)
    return fitted(seconds, chunks)


def here(workers: int, chunks: Sequence[int], cache: Path) -> Rate:
    """This process, with so many cores."""
    seconds = []
    for count in chunks:
        started = time.perf_counter()
        engine = load(EngineConfig(name="ctranslate2", workers=workers), NANO, cache=cache, digest="nano")
        deque((generate(one, engine) for one in work(count)), maxlen=0)
        engine.close()
        seconds.append(time.perf_counter() - started)
    return fitted(seconds, chunks)


def prepare(folder: Path, tasks: int) -> None:
    """A workspace whose r1 has so many tasks."""
    workspace = Workspace(folder)
    workspace.init(configuration.find("nano"), [f"instructions.tasks={tasks}", f"engine.chunk={MILLION_CHUNK}"])
    member = Model(kind=ModelKind.MEMBER, name="member", path="member", digest="m" * 64)
    reward = Model(
        kind=ModelKind.REWARD, name="lengths", path="lengths", digest="l" * 64, facts=Facts(members=(member.model_id,))
    )
    for model in (member, reward):
        workspace.store.record_model(model)
    run, texts = begin(workspace, workspace.config(), reward), Texts()
    demos = tuple(seed.task.task_id for seed in run.seeds[:3])
    spans = [range(start, min(start + 4_096, tasks)) for start in range(0, tasks, 4_096)]
    chunks = (
        Chunk(
            rows=[Proposal(attempt=one, raw="", demos=demos, tokens=0, task=texts.task(1, one)) for one in span],
            last=span.stop == tasks,
        )
        for span in spans
    )
    with open_stage(run, Stage.PROPOSE, total=tasks, unit="tasks") as stage:
        for chunk in chunks if stage else ():
            stage.commit(chunk)


@contextmanager
def begun(folder: Path) -> Iterator[RoundContext]:
    """The round, and a cluster of two cores that works for it."""
    from flywheel.workers.ray_workers import RayWorkers

    workspace = Workspace(folder)
    run = begin(workspace, workspace.config(), workspace.store.models(ModelKind.REWARD)[0])
    pools = {
        Step.GENERATE: Pool(start=Named().start, size=1, cpus=1, gpus=0),
        Step.SCORE: Pool(start=Lengths().start, size=1, cpus=1, gpus=0),
    }
    with cluster(2):
        vars(run)["workers"] = RayWorkers(pools, retries=2)
        _ = run.prompts
        yield run


def answer_and_score(run: RoundContext) -> float:
    """Both stages; returns the most memory in MiB that the driver had to itself: what lies in Ray's object store is apart."""
    done, most = threading.Event(), [0.0]

    def look() -> None:
        while not done.wait(0.5):
            most[0] = max(most[0], memory("RssAnon"))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        stages_answer_and_score(run)
    finally:
        done.set()
        looking.join()
    return most[0]


RIGHT = f"""
SELECT
    (SELECT count(*) FROM candidates) AS candidates,
    (SELECT count(DISTINCT task_id) FROM candidates) AS tasks,
    (SELECT count(*) FROM candidates WHERE output <> trim(task_id || ' ' || candidate || ' ' || repeat('word ', 5 + candidate)))
        AS wrong,
    (SELECT count(*) FROM candidates AS c ANTI JOIN scores AS s
        ON s.task_id = c.task_id AND s.candidate = c.candidate AND s.score = length(c.output)) AS unscored,
    (SELECT count(*) FROM tasks AS t ANTI JOIN
        (SELECT task_id FROM candidates GROUP BY ALL HAVING count(*) = {N} AND count(DISTINCT candidate) = {N}) AS c
        ON c.task_id = t.task_id) AS incomplete
"""


def million(tasks: int) -> tuple[Cost, float]:
    """What so many tasks cost the driver, and the size of the database in MiB; exits where a row is not as it must be."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "workspace"
        measured(prepare, folder, tasks)
        cost = measured(answer_and_score, folder, ready=begun)
        path = Workspace(folder).store.path
        (found,) = reading.query(path, RIGHT).as_dicts()
        if found != {"candidates": tasks * N, "tasks": tasks, "wrong": 0, "unscored": 0, "incomplete": 0}:
            sys.exit(f"the rows are not as they must be: {found}")
        return cost, path.stat().st_size / 2**20


def breaks_even(alone: Rate, together: Rate) -> float | None:
    """From how many tasks on a cluster is through before a process alone; None where it never is."""
    saved = 1 / alone.candidates_per_second - 1 / together.candidates_per_second
    lost = together.fixed_seconds - alone.fixed_seconds
    return max(0.0, lost / saved / N) if saved > 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--chunks", type=int, nargs=3, default=[4, 24, 60], help=f"three sizes, in chunks of {CHUNK} tasks")
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    silence()
    rates: dict[str, Rate] = {}
    with tempfile.TemporaryDirectory() as cache:
        for workers in arguments.workers:
            rates[f"this process, {workers} cores"] = here(workers, arguments.chunks, Path(cache))
        for workers in arguments.workers:
            rates[f"Ray, {workers} workers"] = measured(on_ray, workers, arguments.chunks, Path(cache)).told
    first, last = (rates[f"Ray, {workers} workers"] for workers in (arguments.workers[0], arguments.workers[-1]))
    alone = rates[f"this process, {arguments.workers[0]} cores"]
    told: dict[str, Any] = {
        "rates": {name: asdict(rate) for name, rate in rates.items()},
        "ratio": last.candidates_per_second / first.candidates_per_second,
        "breaks_even_at_tasks": breaks_even(alone, last),
        "cores": os.cpu_count(),
    }
    if arguments.tasks:
        cost, mib = million(arguments.tasks)
        told["million"] = asdict(cost) | {"tasks": arguments.tasks, "database_mib": mib}
    if arguments.json:
        print(json.dumps(told))
        return
    print(f"n = {N}, chunks of {CHUNK}, {os.cpu_count()} cores, {platform.machine()}")
    columns = ["candidates/s", "fixed s", "third size"]
    table("answers with nano", columns, {
        name: [f"{rate.candidates_per_second:,.0f}", f"{rate.fixed_seconds:.1f}", f"{100 * rate.off:+.0f} %"]
        for name, rate in rates.items()
    })  # fmt: skip
    print(f"{arguments.workers[-1]} workers to {arguments.workers[0]}: {told['ratio']:.2f}")
    even = told["breaks_even_at_tasks"]
    print("it never pays" if even is None else f"it pays from {even:,.0f} tasks on", "against one core alone")
    if arguments.tasks:
        print(
            f"\n{arguments.tasks:,} tasks with {N} candidates, every row right: {cost.seconds:.0f} s; the driver's own memory "
            f"{cost.told:,.0f} MiB at most, {cost.peak_mib:,.0f} with what it sees of the object store; "
            f"the database {mib:,.0f} MiB"
        )


if __name__ == "__main__":
    main()
