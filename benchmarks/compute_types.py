"""CTranslate2's compute types on nano: how fast they write, and whether other candidates win.

The same tasks, seeds and reward model for each type this CPU has. Speed is the median of alternating runs. A winner counts as
changed where its text is another one than float32's; what a new seed changes in float32 stands beside it, for a changed text
alone says little. What matters is whether winners are worse: their mean reward, and the share that the verifier calls right.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import ctranslate2

from flywheel import config as configuration
from flywheel.config import EngineConfig
from flywheel.core.assets import asset
from flywheel.core.progress import Silent
from flywheel.core.quiet import silence
from flywheel.engines.contract import Engine, Sampling
from flywheel.engines.factory import load
from flywheel.instructions.prompts import Prompts
from flywheel.instructions.tasks import read_tasks
from flywheel.nano.verifier import judge
from flywheel.records import FinishReason, Task
from flywheel.reward.build import build_reward_model
from flywheel.reward.model import load_scorer
from flywheel.reward.text import Answer, Scorer
from flywheel.workspace import Workspace

NANO = asset("data/nano/generator")
SAMPLING = Sampling(temperature=1.0, top_p=1.0, max_tokens=32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    silence()
    tasks = read_tasks(asset("data/nano/heldout.jsonl"))
    prompts = [Prompts(asset("prompts")).answer(task) for task in tasks]
    types = [name for name in ("float32", "bfloat16", "int8") if name in ctranslate2.get_supported_compute_types("cpu")]
    with tempfile.TemporaryDirectory() as folder:
        scorer = reward_model(Path(folder) / "workspace")
        engines = {
            name: load(EngineConfig(name="ctranslate2", compute_type=name), NANO, cache=Path(folder), digest="nano")
            for name in types
        }
        rates: dict[str, list[float]] = {name: [] for name in types}
        for repeat in range(arguments.repeats + 1):
            for name, engine in engines.items():
                started = time.perf_counter()
                engine.generate(prompts, n=4, sampling=SAMPLING, seed=repeat)
                rates[name].append(4 * len(prompts) / (time.perf_counter() - started))
        first = winners(engines["float32"], prompts, tasks, scorer, seed=0)
        told = {"float32, another seed": compared(first, winners(engines["float32"], prompts, tasks, scorer, seed=1), tasks)}
        for name, engine in engines.items():
            told[name] = compared(first, winners(engine, prompts, tasks, scorer, seed=0), tasks)
            told[name]["candidates_per_s"] = statistics.median(rates[name][1:])
            engine.close()
    if arguments.json:
        print(json.dumps(told))
        return
    print(
        f"{len(tasks)} tasks x 4 candidates, {os.cpu_count()} cores, {platform.machine()}, median of {arguments.repeats} runs"
    )
    for name, row in told.items():
        rate = f"{row['candidates_per_s']:>6,.0f} candidates/s" if "candidates_per_s" in row else " " * 19
        print(f"{name:<22} {rate}  winners changed {row['changed']:.0%}, reward {row['reward']:+.3f}, right {row['right']:.3f}")


def reward_model(folder: Path) -> Scorer:
    """nano's own, built with a tenth of its steps."""
    workspace = Workspace(folder)
    small = ["reward.joint.epochs=0.3", *(f"reward.members.{name}.epochs=0.2" for name in ("thumbs", "pairs", "form"))]
    workspace.init(configuration.find("nano"), small)
    model = build_reward_model(workspace.config(), workspace, Silent())
    return load_scorer(workspace.locate(model), workspace.config())


def winners(
    engine: Engine, prompts: Sequence[str], tasks: Sequence[Task], scorer: Scorer, *, seed: int
) -> list[tuple[str, float]]:
    """The best finished candidate of each task with its reward; an empty text where none is finished."""
    written = engine.generate(prompts, n=4, sampling=SAMPLING, seed=seed)
    rows = [(task, one) for task, group in zip(tasks, written, strict=True) for one in group]
    rewards = iter(scorer.score_answers([Answer(task=task, output=one.text.strip(), finished=True) for task, one in rows]))
    best = []
    for group in written:
        scored = [(next(rewards), one) for one in group]
        finished = [(reward, one.text.strip()) for reward, one in scored if one.finish_reason == FinishReason.STOP]
        reward, text = max(finished, default=(0.0, ""))
        best.append((text, reward))
    return best


def compared(first: Sequence[tuple[str, float]], other: Sequence[tuple[str, float]], tasks: Sequence[Task]) -> dict[str, float]:
    right = judge([(task, text) for task, (text, _) in zip(tasks, other, strict=True)])
    return {
        "changed": sum(one[0] != two[0] for one, two in zip(first, other, strict=True)) / len(first),
        "reward": statistics.mean(reward for _, reward in other),
        "right": statistics.mean(value or 0.0 for value in right),
    }


if __name__ == "__main__":
    main()
