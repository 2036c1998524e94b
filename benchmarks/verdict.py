"""How often the verdict is right where the truth is known: false alarms, power, planted tricks.

Pairs of rounds are drawn from a model of tasks, samples and judges (tests/evaluation/simulated.py) and given to the same code
that `flywheel compare` runs. Prints the tables of docs/verdict.md; `--quick` draws few pairs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flywheel.config import EvaluationConfig
from flywheel.evaluation.evidence import gather
from flywheel.evaluation.verdict import Comparison, Verdict
from tests.evaluation.simulated import Truth, pair

CONFIG = EvaluationConfig(tasks="-", judge="m:f", resamples=2000)
ALIKE = {
    "right or wrong, as nano's r1": Truth(),
    "right or wrong, half right, similar tasks": Truth(level=0.0, spread=0.5),
    "numbers, skewed lengths": Truth(binary=False, skew=1.5, length_bias=0.3),
    "right or wrong, 100 tasks": Truth(tasks=100),
}
PLANTED = {
    "judge -0.05, reward up (hacked)": Truth(judge=-0.05, reward=0.5),
    "judge -0.03, reward up (hacked)": Truth(judge=-0.03, reward=0.5),
    "judge as before, reward up": Truth(judge=1e-9, reward=0.5),
    "judge +0.02, reward up": Truth(judge=0.02, reward=0.5),
    "judge +0.05, reward up": Truth(judge=0.05, reward=0.5),
    "half of the variety lost": Truth(judge=0.05, reward=0.5, diversity=-0.3),
    "a quarter of the endings lost": Truth(judge=0.05, reward=0.5, finish_rate=-0.25),
    "no change, 2,000 tasks": Truth(tasks=2000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    scale = 10 if arguments.quick else 1
    started = time.monotonic()
    table("Two equal rounds", "pairs of", [(name, truth, 500 // scale) for name, truth in ALIKE.items()])
    total = Counter[Verdict]()
    for truth in ALIKE.values():
        total += verdicts(truth, 500 // scale, first=0)
    cries, pairs = total[Verdict.IMPROVED] + total[Verdict.WORSE], sum(total.values())
    exact = stats.binomtest(cries, pairs).proportion_ci()
    print(
        f"\n*improved* or *worse* in {cries} of {pairs} pairs: {100 * cries / pairs:.1f} % "
        f"({100 * exact.low:.1f} to {100 * exact.high:.1f})\n"
    )
    power(200 // scale)
    table(
        "Planted changes, 400 tasks x 4 samples", "pairs of", [(name, truth, 400 // scale) for name, truth in PLANTED.items()]
    )
    inflation(200 // scale)
    print(f"\n{time.monotonic() - started:.0f} s")


def verdicts(truth: Truth, pairs: int, *, first: int = 10_000) -> Counter[Verdict]:
    return Counter(Comparison(gather(*pair(truth, first + seed), CONFIG, seed=seed)).verdict for seed in range(pairs))


def table(title: str, what: str, rows: Iterable[tuple[str, Truth, int]]) -> None:
    print(f"{title}\n\n| {what} | pairs | {' | '.join(Verdict)} |\n|---|{'---:|' * (1 + len(Verdict))}")
    for name, truth, pairs in rows:
        found = verdicts(truth, pairs, first=0 if title.startswith("Two") else 10_000)
        print(f"| {name} | {pairs} | {' | '.join(f'{100 * found[one] / pairs:.1f} %' for one in Verdict)} |")
    print()


def power(pairs: int) -> None:
    sizes, effects = (100, 200, 400, 1000, 2000), (0.01, 0.02, 0.03, 0.05, 0.07, 0.10)
    for name, truth in (("as nano's r1", Truth()), ("half right, similar tasks", Truth(level=0.0, spread=0.5))):
        print(f"Share of rounds called *improved*, 4 samples a task, {name}\n")
        print(f"| true difference | {' | '.join(f'{size:,} tasks' for size in sizes)} |\n|---|{'---:|' * len(sizes)}")
        for effect in effects:
            shares = [
                verdicts(replace(truth, judge=effect, reward=0.3, tasks=size), pairs)[Verdict.IMPROVED] / pairs
                for size in sizes
            ]
            print(f"| +{100 * effect:.0f} points | {' | '.join(f'{100 * share:.0f} %' for share in shares)} |")
        print()


def inflation(pairs: int) -> None:
    """A judge that likes length, and outputs that only got longer."""
    truth = Truth(binary=False, longer=0.4, length_bias=0.5)
    comparisons = [Comparison(gather(*pair(truth, seed), CONFIG, seed=seed)) for seed in range(pairs)]
    improved = np.mean([comparison.verdict == Verdict.IMPROVED for comparison in comparisons])
    warned = np.mean([any("length-controlled" in caveat for caveat in comparison.caveats) for comparison in comparisons])
    print(
        f"Outputs 1.5 times as long, which is all that the judge likes about them: {100 * improved:.0f} % *improved*, and of "
        f"these {100 * warned:.0f} % with the caveat that nothing is left at equal length."
    )


if __name__ == "__main__":
    main()
