"""The statistics and the rules of the verdict."""

from __future__ import annotations

import numpy as np
import pytest

from flywheel.config import EvaluationConfig
from flywheel.evaluation.statistics import bootstrap_mean, smallest_detectable
from flywheel.evaluation.verdict import Measured, Verdict, decide, gather, sentence

CONFIG = EvaluationConfig(tasks="t", judge="m:f", resamples=2000)


def verdict(judge_shift: float, reward_shift: float, *, tasks: int = 400, noise: float = 0.2, seed: int = 0) -> Verdict:
    rng = np.random.default_rng(seed)
    judge, reward = rng.uniform(0, 1, tasks), rng.normal(0, 1, tasks)
    before = Measured(name="r1", judge=judge, reward=reward)
    after = Measured(
        name="r2",
        judge=judge + judge_shift + rng.normal(0, noise, tasks),
        reward=reward + reward_shift + rng.normal(0, 0.2, tasks),
    )
    return decide(gather(before, after, CONFIG, seed=1))


@pytest.mark.parametrize(
    ("judge_shift", "reward_shift", "expected"),
    [
        (0.1, 0.3, Verdict.IMPROVED),
        (0.1, -0.3, Verdict.IMPROVED),
        (-0.1, 0.3, Verdict.WORSE),
        (0.0, 0.3, Verdict.PROXY_ONLY),
        (0.0, 0.0, Verdict.INCONCLUSIVE),
    ],
)
def test_the_rules(judge_shift: float, reward_shift: float, expected: Verdict) -> None:
    assert verdict(judge_shift, reward_shift) == expected


def test_flat_needs_an_interval_inside_the_margin() -> None:
    assert verdict(0.0, 0.0, noise=0.02) == Verdict.FLAT
    assert verdict(0.0, 0.0, noise=0.5) == Verdict.INCONCLUSIVE


def test_few_tasks_are_not_enough_to_call_a_reward_a_proxy() -> None:
    assert verdict(0.0, 0.5, tasks=12, noise=0.5) == Verdict.INCONCLUSIVE


def test_two_equal_rounds_are_seldom_called_better_or_worse() -> None:
    cries = [verdict(0.0, 0.0, tasks=200, seed=seed) in (Verdict.IMPROVED, Verdict.WORSE) for seed in range(200)]
    assert np.mean(cries) <= 0.09  # 5 % by construction, and 200 draws of it


def test_the_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(300):
        found = bootstrap_mean(rng.normal(0.3, 1, 150), confidence=0.95, resamples=1000, seed=seed)
        covered += found.low <= 0.3 <= found.high
    assert 0.91 <= covered / 300 <= 0.985


def test_the_bootstrap_repeats_and_agrees_with_the_textbook() -> None:
    values = np.random.default_rng(1).normal(0, 1, 1000)
    once, again = (bootstrap_mean(values, confidence=0.95, resamples=4000, seed=3) for _ in range(2))
    assert once == again
    error = values.std(ddof=1) / np.sqrt(values.size)
    assert once.high - once.low == pytest.approx(2 * 1.96 * error, rel=0.05)


def test_the_smallest_detectable_difference_shrinks_with_the_root_of_the_tasks() -> None:
    values = np.tile([0.0, 1.0], 200)
    ratio = smallest_detectable(values[:100], confidence=0.95) / smallest_detectable(values, confidence=0.95)
    assert ratio == pytest.approx(2.0, rel=0.01)


def test_the_sentence_is_one_line_with_both_rounds_and_the_verdict() -> None:
    before = Measured(name="r1", judge=np.zeros(50), reward=np.zeros(50))
    after = Measured(name="r2", judge=np.ones(50), reward=np.ones(50))
    evidence = gather(before, after, CONFIG, seed=0)
    text = sentence(evidence, decide(evidence))
    assert "\n" not in text
    assert text.startswith("r2 against r1: improved")
