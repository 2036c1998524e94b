"""What each way to propose gives on nano, whose verifier knows which tasks make sense and which outputs are right.

    python benchmarks/instructions.py

Every row is a round r1 of 500 tasks from the same generator and reward model, with one setting changed; `evolving` is the
second of two rounds. The tables of docs/instructions.md come from here.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from flywheel import config as configuration
from flywheel.nano.world import FAMILIES, FAMILY_OF, right_output
from flywheel.records import Task
from flywheel.report.progress import Terminal
from flywheel.report.rounds import summary
from flywheel.reward.model import load_scorer
from flywheel.reward.text import Answer
from flywheel.round.loop import run_next_round
from flywheel.store import reading
from flywheel.workspace import Workspace

SEEDS = range(5)
VARIANTS: dict[str, list[str]] = {
    "enumerated, sets (the paper's)": [],
    "minimal meta-prompt": ["instructions.meta_prompt=minimal"],
    "verbose meta-prompt": ["instructions.meta_prompt=verbose"],
    "demos from the pool": ["instructions.demos=pool"],
    "best of 4 by novelty": ["instructions.best_of=4"],
    "best of 4 by reward": ["instructions.best_of=4", "instructions.best_by=reward"],
    "near-duplicates over 0.8": ["instructions.filters.near_duplicate=0.8", "instructions.max_attempts=200"],
}


def main() -> None:
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        base = Workspace(Path(folder) / "base")
        base.init(configuration.find("nano"))
        run_next_round(base, base.config(["instructions.tasks=500"]), Terminal())
        print("\n500 asked, 500 kept, in each of 5 seeds")
        for seed in SEEDS:
            told = measured(base, [f"seed={seed}"])
            print(f"seed {seed}: {told['proposed']} attempts, {told['kept']} kept, {json.dumps(told['dropped'])}")
        print("\n" + " | ".join(("", *COLUMNS)))
        for name, sets in VARIANTS.items():
            print(" | ".join([name, *row(measured(base, sets))]), flush=True)
        evolving = measured(base, ["instructions.demos=evolving"], rounds=2)
        print(" | ".join(["r2 with evolving demos", *row(evolving)]))
        print(" | ".join(["r2 with sets", *row(measured(base, [], rounds=2))]))
        told = measured(base, ["instructions.paraphrases.per_winner=2", "instructions.paraphrases.max_reward_fall=null"])
        print(f"\nparaphrases that nano writes: {json.dumps(told['paraphrases'])}; {told['meaning']} kept ones mean the same")
        print("other ways to say a winner's instruction, and other instructions: what max_reward_fall keeps of them")
        for fall, same, other in planted_alternatives(base):
            print(f"{fall}: {same:.3f} of those that mean the same, {other:.3f} of the others")


COLUMNS = ("attempts", "kept", "make sense", "distinct-2", "compression", "self-BLEU", "kinds", "winners right", "judge", "s")


def row(told: dict[str, Any]) -> list[str]:
    found = told["diversity"]
    return [
        str(told["proposed"]), str(told["kept"]), f"{told['sense']:.3f}", f"{found['distinct_2']:.3f}",
        f"{found['compression_ratio']:.2f}", f"{found['self_bleu']:.2f}", f"{found['kinds']:.0f}", f"{told['right']:.3f}",
        f"{told['judge']:.3f}", f"{told['propose_s']:.1f}",
    ]  # fmt: skip


def measured(base: Workspace, sets: list[str], *, rounds: int = 1) -> dict[str, Any]:
    """The last of some rounds from the base's r0, and what the verifier says of its tasks and winners."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(shutil.copytree(base.folder, Path(folder) / "workspace")))
        workspace.store.set_status("r1", "failed")
        for number in range(rounds):
            name = run_next_round(workspace, workspace.config(sets), Terminal(), restart=number == 0)
        path = workspace.store.path
        told = summary(path, name)
        told["propose_s"] = next(stage["seconds"] for stage in told["stages"] if stage["stage"] == "propose")
        kept = [one.task for one in workspace.store.tasks(name)]
        told["sense"] = sum(right_output(task) is not None for task in kept) / len(kept)
        winners = list(workspace.store.winners([name]))
        told["right"] = sum(right_output(one.task) == one.output for one in winners) / len(winners)
        told["meaning"] = meaning(path, name)
        return told


def meaning(path: Path, name: str) -> str:
    """How many kept paraphrases have the same right output as their winner's task."""
    sql = (
        "SELECT p.instruction, d.instruction, d.input, d.constraints FROM expanded AS p "
        "JOIN dataset AS d ON d.round = p.round AND d.task_id = p.winner WHERE p.round = ? AND p.origin = 'paraphrased'"
    )
    same: Counter[bool] = Counter()
    for alternative, instruction, text, constraints in reading.query(path, sql, [name]).rows:
        task = Task(instruction=instruction, input=text, constraints=constraints)
        wanted = right_output(task)
        same[wanted is not None and wanted == right_output(replace(task, instruction=alternative))] += 1
    return f"{same[True]} of {same.total()}"


def planted_alternatives(base: Workspace) -> list[tuple[float, float, float]]:
    """Limits, and the shares of same and of other instructions under which the winner's reward falls by less."""
    store = base.store
    reward = next(one.reward_model for one in store.rounds() if one.round == "r1")
    scorer = load_scorer(base.locate(store.model(reward or "")), base.config())
    rng, planted = random.Random(0), []
    for winner in store.winners(["r1"]):
        if (family := FAMILY_OF.get(winner.task.instruction)) is None:
            continue
        planted += [(True, winner, one) for one in family.phrasings if one != winner.task.instruction]
        others = rng.sample([one for one in FAMILIES if one is not family], 2)
        planted += [(False, winner, rng.choice(one.phrasings)) for one in others]
    before = scorer.score_answers([Answer(task=winner.task, output=winner.output) for _, winner, _ in planted])
    after = scorer.score_answers(
        [Answer(task=replace(one.task, instruction=said), output=one.output) for _, one, said in planted]
    )
    falls = [(same, was - now) for (same, _, _), was, now in zip(planted, before, after, strict=True)]
    return [(most, *(_share(falls, same, most) for same in (True, False))) for most in (1.0, 0.5, 0.25)]


def _share(falls: list[tuple[bool, float]], wanted: bool, most: float) -> float:
    found = [fall <= most for same, fall in falls if same == wanted]
    return sum(found) / len(found)


if __name__ == "__main__":
    main()
