"""Several wheels of nano, turned five times each: the chain of verdicts, random picks beside them, and the truth.

For each seed a workspace turns five rounds, each with a control trained on random picks. The truth is the verifier's on 5,000
tasks that no round has seen, one sample each. A verdict is right where what it claims holds there: *improved* above zero,
*worse* below, *flat* within the margin, *proxy-only* below a rise worth having; *inconclusive* claims nothing.

Takes about four minutes a seed. `--config nano-hacked` tells the other story; `--json` for scripts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from flywheel.config import EngineConfig
from flywheel.core.quiet import silence
from flywheel.engines.contract import Sampling
from flywheel.engines.factory import load
from flywheel.evaluation.trend import trend
from flywheel.instructions.prompts import load_prompts
from flywheel.nano.tasks import fresh_tasks, held_out_tasks
from flywheel.nano.verifier import judge
from flywheel.store import evaluations
from flywheel.workspace import Workspace

FRESH = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="nano")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-control", action="store_true", help="only the rounds")
    parser.add_argument("--to", type=Path, help="keep the workspaces here, and go on with those that are there")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    silence()
    folder = arguments.to or Path(tempfile.mkdtemp())
    found = []
    for seed in range(arguments.seeds):
        workspace = Workspace(folder / f"seed-{seed}")
        if seed and not workspace.exists:
            # The reward model does not depend on the seed of the rounds: it is built once.
            shutil.copytree(folder / "seed-0-built", workspace.folder)
        turn(workspace, arguments, seed)
        found.append(story(workspace, seed))
        if not arguments.json:
            show(found[-1])
    if arguments.json:
        print(json.dumps(found))
    else:
        agreement(found)


def turn(workspace: Workspace, arguments: argparse.Namespace, seed: int) -> None:
    """Turn the wheel as a user would."""
    if not workspace.exists:
        flywheel(workspace, "init", "--config", arguments.config)
        flywheel(workspace, "reward", "build")
        shutil.copytree(workspace.folder, workspace.folder.with_name("seed-0-built"))
    control = [] if arguments.no_control else ["--control", "random"]
    done = len(workspace.store.rounds()) - 1
    if done < arguments.rounds:
        flywheel(workspace, "round", "--repeat", str(arguments.rounds - max(0, done)), "--set", f"seed={seed}", *control)


def flywheel(workspace: Workspace, *command: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "flywheel.cli", "-w", str(workspace.folder), *command],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        sys.exit(ran.stderr)


def story(workspace: Workspace, seed: int) -> dict[str, Any]:
    """Rounds, verdicts, controls, and the truth of each."""
    told = trend(workspace.store)
    right = {name: truth(workspace, name) for name in every_round(workspace)}
    rewards = evaluations.metric(workspace.store.path, "heldout.reward")
    steps = [
        {
            "chain": chain, "base": step.base, "round": step.round, "verdict": str(step.comparison.verdict),
            "judge": vars_of(step.comparison.evidence.judge), "reward": step.comparison.evidence.reward.value,
            "truth": float((right[step.round] - right[step.base]).mean()),
            "truth_error": float((right[step.round] - right[step.base]).std(ddof=1) / FRESH**0.5),
        }
        for chain, found in (("parent", told.against_parent), ("control", told.against_control))
        for step in found
    ]  # fmt: skip
    accuracies = {name: float(one.mean()) for name, one in right.items()}
    return {"seed": seed, "steps": steps, "accuracy": accuracies, "reward": rewards, "best": told.best}


def vars_of(one: Any) -> dict[str, float]:
    return {name: getattr(one, name) for name in ("before", "after", "value", "low", "high")}


def every_round(workspace: Workspace) -> list[str]:
    return [one.round for one in workspace.store.rounds(controls=True)]


def truth(workspace: Workspace, name: str) -> np.ndarray:
    """Whether a round's generator is right, on each of the fresh tasks."""
    config, store = workspace.config(), workspace.store
    made = next(one for one in store.rounds(controls=True) if one.round == name)
    model = store.model(made.generator_out or "")
    held = {(task.instruction, task.input) for task in held_out_tasks()}
    tasks = list(islice(dict.fromkeys(islice(fresh_tasks("truth", held), 2 * FRESH)), FRESH))
    prompts = load_prompts(config, workspace, model)
    with tempfile.TemporaryDirectory() as cache:
        engine = load(EngineConfig(), workspace.locate(model), cache=Path(cache), digest=model.digest[:12])
        sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=config.sampling.max_tokens)
        written = engine.generate([prompts.answer(task) for task in tasks], n=1, sampling=sampling, seed=1)
    judged = judge([(task, group[0].text) for task, group in zip(tasks, written, strict=True)])
    return np.array([float(one or 0.0) for one in judged])


def show(one: dict[str, Any]) -> None:
    steps = [step for step in one["steps"] if step["chain"] == "parent"]
    print(f"\nseed {one['seed']}, best by the held-out tasks: {one['best']}\n")
    print("| | verdict | judge | difference | reward | truth on 5,000 tasks | against random picks |")
    print("|---|---|---:|---|---:|---:|---|")
    controls = {step["round"]: step for step in one["steps"] if step["chain"] == "control"}
    for step in steps:
        judged, other = step["judge"], controls.get(step["round"])
        beside = ""
        if other:
            gain = other["judge"]
            beside = f"{gain['value']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"
        print(
            f"| {step['round']} | {step['verdict']} | {judged['after']:.3f} | {judged['value']:+.3f} ({judged['low']:+.3f} to "
            f"{judged['high']:+.3f}) | {one['reward'][step['round']]:+.2f} | {one['accuracy'][step['round']]:.3f} "
            f"({step['truth']:+.3f}) | {beside} |"
        )


def agreement(found: list[dict[str, Any]], margin: float = 0.02, rise: float = 0.05) -> None:
    """How often what a verdict claims holds on the fresh tasks."""
    steps = [step for one in found for step in one["steps"]]
    claims = {
        "improved": lambda one: one["truth"] > 0,
        "worse": lambda one: one["truth"] < 0,
        "flat": lambda one: abs(one["truth"]) < margin,
        "proxy-only": lambda one: one["truth"] < rise,
    }
    print("\n| verdict | claims | hold on 5,000 fresh tasks |\n|---|---:|---:|")
    for verdict, holds in claims.items():
        made = [one for one in steps if one["verdict"] == verdict]
        print(f"| {verdict} | {len(made)} | {sum(holds(one) for one in made)} |")
    silent = [one for one in steps if one["verdict"] not in claims]
    print(f"| no claim | {len(silent)} | |")


if __name__ == "__main__":
    main()
