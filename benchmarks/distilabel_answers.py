"""The answer stage against distilabel's: the same generator, tasks, number of candidates, sampling and float32.

distilabel runs its own pipeline (`TextGeneration` with `TransformersLLM`) in an environment of its own, which `make
bench-distilabel` makes; flywheel its answer stage as in a round, rows written. They take turns; what is printed is each one's
median. Loading is left out on both sides, and for distilabel also what its pipeline needs to start and to end, which is told
beside it. distilabel has no setting for how many prompts its transformers pipeline runs at once, so they go one by one; a
second run sets it from outside, to what is good here. `--json` for scripts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _rounds import begin, give_tasks

from flywheel import config as configuration
from flywheel.core.quiet import silence
from flywheel.engines.contract import Sampling
from flywheel.instructions.prompts import Prompts
from flywheel.instructions.tasks import read_tasks
from flywheel.records import Stage, Task
from flywheel.workspace import Workspace

HERE = Path(__file__).parent
DISTILABEL = HERE.parent / ".venv-distilabel" / "bin" / "python"
AT_ONCE = 64
ENDS_AFTER_S = 1200


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What one run wrote, and in what time."""

    candidates: int
    seconds: float
    around_s: float = 0.0
    """What it took to start and to end, beside that."""

    @property
    def rate(self) -> float:
        return self.candidates / self.seconds


def flywheel(tasks: list[Task], n: int, repeat: int) -> Written:
    """The answer stage of a round, in nano's own settings."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / "workspace")
        workspace.init(configuration.find("nano"), [f"sampling.n={n}", f"seed={repeat}", f"instructions.tasks={len(tasks)}"])
        config = workspace.config()
        run = begin(workspace, config)
        give_tasks(run, tasks)
        sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=config.sampling.max_tokens)
        run.workers.engine.generate([run.prompts.answer(tasks[0])], n=1, sampling=sampling, seed=0)
        started = time.perf_counter()
        run.stage(Stage.ANSWER, run.answer, total=None, unit="candidates")
        seconds = time.perf_counter() - started
        return Written(candidates=sum(map(len, workspace.store.candidates("r1").values())), seconds=seconds)


def distilabel(asked: dict[str, Any]) -> Written:
    """One run of its pipeline, in its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        question, answer, log = (Path(folder) / name for name in ("asked.json", "told.json", "log"))
        question.write_text(json.dumps(asked), encoding="utf-8")
        command = [DISTILABEL, HERE / "_distilabel_worker.py", question, answer]
        environment = os.environ | {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1"}
        with log.open("w", encoding="utf-8") as output:
            ended = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=environment, timeout=ENDS_AFTER_S)
        if ended.returncode:
            sys.exit(log.read_text(encoding="utf-8")[-4000:])
        told = json.loads(answer.read_text(encoding="utf-8"))
    seconds = told["generating_s"]
    return Written(candidates=told["candidates"], seconds=seconds, around_s=told["whole_s"] - seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not DISTILABEL.exists():
        sys.exit(f"no {DISTILABEL.relative_to(HERE.parent)}; make it with `make bench-distilabel`")
    silence()
    config = configuration.load(configuration.find("nano"))
    tasks = read_tasks(config.path(config.evaluation.tasks))[: arguments.tasks]
    prompts = Prompts(config.path(config.prompts))
    asked = {
        "model": str(config.path(config.generator)),
        "prompts": [prompts.answer(task) for task in tasks],
        "n": arguments.n,
        "max_tokens": config.sampling.max_tokens,
    }
    runs: dict[str, Callable[[int], Written]] = {
        "distilabel": lambda _: distilabel(asked | {"prompts_at_once": None}),
        f"distilabel, {AT_ONCE} prompts at once set from outside": lambda _: distilabel(asked | {"prompts_at_once": AT_ONCE}),
        "flywheel": lambda repeat: flywheel(tasks, arguments.n, repeat),
    }
    found: dict[str, list[Written]] = {name: [] for name in runs}
    for repeat in range(arguments.repeats):
        for name, run in runs.items():
            found[name].append(run(repeat))
    rates = {name: [one.rate for one in written] for name, written in found.items()}
    medians = {name: statistics.median(values) for name, values in rates.items()}
    around = {name: statistics.median(one.around_s for one in written) for name, written in found.items()}
    if arguments.json:
        print(json.dumps({"candidates_per_s": medians, "runs": rates, "around_s": around, "cores": os.cpu_count()}))
        return
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    print(f"{len(tasks)} tasks x {arguments.n} candidates, {machine}, median of {arguments.repeats} runs")
    for name, values in rates.items():
        spread = f"{min(values):,.0f} to {max(values):,.0f}"
        beside = f", and {around[name]:.1f} s to start and end" if around[name] else ""
        print(f"{name:<52} {medians[name]:>8,.0f} candidates/s  ({spread}){beside}")
    for name in list(runs)[:-1]:
        print(f"flywheel over {name}: {medians['flywheel'] / medians[name]:.1f}x")


if __name__ == "__main__":
    main()
