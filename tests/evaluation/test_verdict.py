"""The rules of the verdict, and how often they are right where the truth is known."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from flywheel.config import EvaluationConfig
from flywheel.evaluation.evidence import Measured, gather
from flywheel.evaluation.verdict import Comparison, Evidence, Interval, Verdict
from tests.evaluation.simulated import Truth, measured, pair

CONFIG = EvaluationConfig(tasks="t", judge="m:f", resamples=2000)


def evidence_of(truth: Truth, seed: int = 0, config: EvaluationConfig = CONFIG) -> Evidence:
    return gather(*pair(truth, seed), config, seed=seed)


def verdicts(truth: Truth, pairs: int) -> Counter[Verdict]:
    return Counter(Comparison(evidence_of(truth, seed)).verdict for seed in range(pairs))


def still(name: str, judge: np.ndarray, reward: np.ndarray, *, diversity: float = 0.6, finish_rate: float = 1.0) -> Measured:
    """A round with one sample a task."""
    ones = np.ones((judge.size, 1))
    return measured(name, judge[:, None], reward[:, None], 20 * ones, finish_rate * ones, np.full(judge.size, diversity))


def verdict(judge_shift: float, reward_shift: float, *, tasks: int = 400, noise: float = 0.2, **after: float) -> Verdict:
    rng = np.random.default_rng(0)
    judge, reward = rng.uniform(0, 1, tasks), rng.normal(0, 1, tasks)
    before = still("r1", judge, reward)
    moved, gained = rng.normal(judge_shift, noise, tasks), rng.normal(reward_shift, 0.2, tasks)
    return Comparison(gather(before, still("r2", judge + moved, reward + gained, **after), CONFIG, seed=1)).verdict


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


def test_collapsing_comes_before_everything_else() -> None:
    for judge in (0.2, 0.0, -0.2):
        assert verdict(judge, 0.3, diversity=0.3) == Verdict.COLLAPSING
        assert verdict(judge, 0.3, finish_rate=0.5) == Verdict.COLLAPSING
    assert verdict(0.2, 0.3, diversity=0.55) == Verdict.IMPROVED


def test_flat_needs_two_one_sided_tests_inside_the_margin() -> None:
    assert verdict(0.0, 0.0, noise=0.02) == Verdict.FLAT
    assert verdict(0.0, 0.0, noise=0.5) == Verdict.INCONCLUSIVE
    evidence = evidence_of(Truth())
    assert evidence.judge.low < evidence.equivalence.low < evidence.equivalence.high < evidence.judge.high


def test_few_tasks_are_not_enough_to_call_a_reward_a_proxy() -> None:
    assert verdict(0.0, 0.5, tasks=12, noise=0.5) == Verdict.INCONCLUSIVE


def test_two_equal_rounds_are_called_better_or_worse_in_at_most_one_pair_of_twenty() -> None:
    settings = [Truth(), Truth(binary=False), Truth(samples=1, tasks=200), Truth(skew=1.5, spread=3.0)]
    cries = [counts[Verdict.IMPROVED] + counts[Verdict.WORSE] for counts in (verdicts(truth, 500) for truth in settings)]
    assert sum(cries) <= 0.05 * 2000


def test_five_points_are_found_with_400_tasks() -> None:
    assert verdicts(Truth(judge=0.05, reward=0.3), 200)[Verdict.IMPROVED] >= 180


def test_a_reward_model_that_is_hacked_is_named() -> None:
    counts = verdicts(Truth(judge=-0.03, reward=0.5), 200)
    assert counts[Verdict.PROXY_ONLY] + counts[Verdict.WORSE] >= 190


def test_a_generator_that_collapses_is_named() -> None:
    assert verdicts(Truth(diversity=-0.25), 50)[Verdict.COLLAPSING] == 50
    assert verdicts(Truth(finish_rate=-0.25), 50)[Verdict.COLLAPSING] == 50
    assert verdicts(Truth(diversity=-0.05, finish_rate=-0.03), 50)[Verdict.COLLAPSING] == 0


def test_longer_outputs_that_only_please_the_judge_raise_a_caveat() -> None:
    inflated = Truth(binary=False, longer=0.5, length_bias=0.5)
    longer = [evidence_of(inflated, seed) for seed in range(40)]
    assert all(evidence.judge.low > 0 for evidence in longer)
    assert sum(any("length-controlled" in caveat for caveat in Comparison(evidence).caveats) for evidence in longer) >= 36
    better = [evidence_of(Truth(binary=False, judge=0.5, length_bias=0.5), seed) for seed in range(40)]
    assert not any(Comparison(evidence).caveats for evidence in better)


def test_the_length_controlled_difference_is_what_is_left_at_equal_length() -> None:
    plain = Truth(binary=False, judge=0.3, uneven=0.1, tasks=2000)
    inflated = replace(plain, longer=0.5, length_bias=0.4)
    evidence = evidence_of(inflated)
    assert evidence.judge.value == pytest.approx(0.3 + 0.5 * 0.4, abs=0.05)
    assert evidence.length_controlled is not None
    assert evidence.length_controlled.value == pytest.approx(0.3, abs=0.06)
    alike = still("r1", np.zeros(50), np.zeros(50))
    assert gather(alike, alike, CONFIG, seed=0).length_controlled is None


def test_another_judge_that_moves_the_other_way_raises_a_caveat() -> None:
    before, after = pair(Truth(judge=0.1), 0)
    unknown = np.full(before.judge.size, np.nan)
    before = replace(before, others={"strict": before.judge, "silent": unknown})
    after = replace(after, others={"strict": before.judge - 0.2, "silent": unknown})
    evidence = gather(before, after, CONFIG, seed=0)
    assert list(evidence.others) == ["strict"]
    assert evidence.others["strict"].value == pytest.approx(-0.2)
    assert any("strict" in caveat for caveat in Comparison(evidence).caveats)


def test_win_tie_and_loss_rates_are_shares_of_the_tasks() -> None:
    judge = np.array([0.0] * 50 + [1.0] * 50)
    better = np.array([1.0] * 20 + [0.0] * 30 + [1.0] * 40 + [0.0] * 10)
    rates = gather(still("r1", judge, judge), still("r2", better, better), CONFIG, seed=0).rates
    assert (rates.win, rates.tie, rates.loss) == (0.2, 0.7, 0.1)
    assert rates.net.value == pytest.approx(0.1)
    assert rates.net.low < 0.1 < rates.net.high


def test_an_inconclusive_verdict_says_how_many_tasks_would_settle_it() -> None:
    few = evidence_of(Truth(tasks=100))
    assert Comparison(few).verdict == Verdict.INCONCLUSIVE
    assert few.tasks_needed is not None
    assert f"0.02 takes {few.tasks_needed:,} tasks" in Comparison(few).sentence
    enough = evidence_of(Truth(tasks=few.tasks_needed))
    assert enough.smallest_detectable == pytest.approx(0.02, rel=0.15)


@pytest.mark.parametrize("tasks", [1, 2, 9])
def test_a_handful_of_tasks_shows_nothing_however_alike_they_are(tasks: int) -> None:
    same = np.full(tasks, 0.5)
    evidence = gather(still("r1", same, same), still("r2", same, same), CONFIG, seed=0)
    assert Comparison(evidence).verdict == Verdict.INCONCLUSIVE
    assert "fewer than 10 tasks (`evaluation.min_tasks`)" in Comparison(evidence).sentence


def test_a_higher_confidence_widens_every_interval() -> None:
    rounds = pair(Truth(judge=0.03), 0)
    plain, strict = (gather(*rounds, CONFIG, seed=0, confidence=level) for level in (0.95, 0.99))
    assert strict.judge.low < plain.judge.low < plain.judge.high < strict.judge.high
    assert strict.p_value == plain.p_value


@pytest.mark.parametrize(
    ("truth", "word", "claim"),
    [
        (Truth(judge=0.2), "improved", "r2 improved over r1: judge +0."),
        (Truth(judge=-0.2), "worse", "r2 is worse than r1: judge -0."),
        (Truth(judge=1e-9, reward=0.5), "proxy-only", "r2 is proxy-only against r1: judge "),
        (Truth(diversity=-0.3), "collapsing", "r2 is collapsing against r1: judge "),
        (Truth(tasks=100), "inconclusive", "r2 against r1 is inconclusive: judge "),
        (Truth(tasks=4000), "flat", "r2 is flat against r1: judge "),
    ],
)
def test_a_comparison_says_it_in_one_line_and_in_typed_fields(truth: Truth, word: str, claim: str) -> None:
    comparison = Comparison(evidence_of(truth))
    judge = comparison.evidence.judge
    assert (comparison.verdict, comparison.difference, comparison.interval) == (
        Verdict(word),
        judge.value,
        Interval(judge.low, judge.high),
    )
    assert comparison.interval.low < comparison.difference < comparison.interval.high
    assert comparison.sentence.startswith(claim)
    assert "\n" not in comparison.sentence
    assert f"(95 % CI {judge.low:+.3f} to {judge.high:+.3f}), {judge.before:.3f} to {judge.after:.3f} on" in comparison.sentence
    plain = comparison.as_json()
    assert (plain["verdict"], plain["sentence"], plain["rates"]["win"]) == (
        word,
        comparison.sentence,
        comparison.evidence.rates.win,
    )
    assert word in repr(comparison)
    assert comparison._repr_html_().startswith(f"<table><caption>{comparison.sentence}")
