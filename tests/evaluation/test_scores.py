"""The verdict for per-task scores that came from elsewhere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from flywheel.errors import ConfigError, DataError
from flywheel.evaluation.scores import compare_scores
from flywheel.evaluation.verdict import Verdict

RNG = np.random.default_rng(0)
BEFORE = RNG.uniform(0, 1, 400)


def test_identical_scores_are_flat_and_noise_is_called_a_change_in_at_most_one_pair_of_twenty() -> None:
    same = compare_scores(BEFORE, BEFORE)
    assert (same.verdict, same.difference, same.evidence.p_value) == (Verdict.FLAT, 0.0, 1.0)
    assert (same.evidence.rates.win, same.evidence.rates.tie, same.evidence.rates.loss) == (0.0, 1.0, 0.0)
    rng = np.random.default_rng(1)
    pairs = [rng.normal(0, 1, (2, 60)) for _ in range(100)]
    cries = [compare_scores(*pair, margin=1e-6).verdict in (Verdict.IMPROVED, Verdict.WORSE) for pair in pairs]
    assert sum(cries) <= 10


def test_five_points_more_improve_and_five_points_less_are_worse() -> None:
    moved = BEFORE + RNG.normal(0.05, 0.1, BEFORE.size)
    comparison = compare_scores(list(BEFORE), list(moved), names=("v1", "v2"))
    assert comparison.verdict == Verdict.IMPROVED
    assert comparison.difference == pytest.approx(0.05, abs=0.02)
    assert 0 < comparison.interval.low < comparison.difference < comparison.interval.high
    evidence = comparison.evidence
    assert evidence.p_value < 0.001
    assert (evidence.base, evidence.round, evidence.tasks) == ("v1", "v2", 400)
    assert evidence.reward is evidence.tokens is evidence.diversity is evidence.length_controlled is None
    assert compare_scores(moved, BEFORE).verdict == Verdict.WORSE
    strict = compare_scores(BEFORE, moved, confidence=0.999)
    assert strict.interval.low < comparison.interval.low


def test_tasks_without_a_score_on_one_side_are_left_out() -> None:
    before, after = [0.1] * 20, [0.3] * 20
    comparison = compare_scores([None, *before, 0.9], [0.5, *after, math.nan])
    assert (comparison.verdict, comparison.evidence.tasks, comparison.difference) == (Verdict.IMPROVED, 20, pytest.approx(0.2))


def test_mappings_are_paired_by_task() -> None:
    before = {f"task {number}": float(number) for number in range(30)}
    after = {task: before[task] + 0.1 for task in reversed(before)} | {"another": 9.0}
    comparison = compare_scores(before, after)
    assert (comparison.evidence.tasks, comparison.difference) == (30, pytest.approx(0.1))


def test_pass_and_fail_are_scores() -> None:
    comparison = compare_scores([False] * 30 + [True] * 10, [True] * 40)
    assert (comparison.evidence.judge.before, comparison.evidence.judge.after) == (0.25, 1.0)


def test_few_tasks_are_inconclusive() -> None:
    assert compare_scores([0.0] * 5, [1.0] * 5).verdict == Verdict.INCONCLUSIVE


def test_a_reward_that_rises_alone_is_proxy_only() -> None:
    after = BEFORE + RNG.normal(0, 0.1, BEFORE.size)
    comparison = compare_scores(BEFORE, after, rewards=(BEFORE, BEFORE + 0.5))
    assert comparison.verdict == Verdict.PROXY_ONLY
    assert comparison.evidence.reward is not None
    assert comparison.evidence.reward.value == pytest.approx(0.5)


def test_what_longer_outputs_gain_is_not_in_the_length_controlled_difference() -> None:
    longer = RNG.normal(0.4, 0.4, BEFORE.size)
    lengths = np.full(BEFORE.size, 49.0)
    after = BEFORE + 0.5 * longer + RNG.normal(0.0, 0.05, BEFORE.size)
    comparison = compare_scores(BEFORE, after, lengths=(lengths, 50 * np.exp(longer) - 1))
    assert comparison.verdict == Verdict.IMPROVED
    assert comparison.difference == pytest.approx(0.2, abs=0.05)
    assert comparison.evidence.length_controlled is not None
    assert comparison.evidence.length_controlled.value == pytest.approx(0.0, abs=0.02)
    assert len(comparison.caveats) == 1


@pytest.mark.parametrize(
    ("before", "after", "extra", "quoted"),
    [
        ([0.1, 0.2], [0.1, 0.2, 0.3], {}, "after has 3"),
        ([0.1, 0.2], [0.1, 0.2], {"rewards": ([1.0], [2.0])}, "rewards before has 1"),
        ({"a": 1.0}, {"b": 1.0}, {}, "no task"),
        ([], [], {}, "no task"),
        ([None], [1.0], {}, "no task"),
        ([0.1, "good"], [0.1, 0.2], {}, "before[1] is 'good'"),
        ({"a": [1.0, 2.0]}, {"a": 1.0}, {}, "before['a'] is [1.0, 2.0]"),
        ([0.1], [math.inf], {}, "after[0] is inf"),
        ("0.1", [0.1], {}, "before"),
        (0.1, [0.1], {}, "before"),
        ({"a": 1.0}, [1.0], {}, "mappings"),
        ([0.1], [0.2], {"rewards": [0.1, 0.2, 0.3]}, "rewards"),
        ([0.1] * 10, [0.2] * 10, {"lengths": ([-5.0] * 10, [5.0] * 10)}, "negative"),
    ],
)
def test_scores_that_cannot_be_compared_are_a_data_error(before: Any, after: Any, extra: dict[str, Any], quoted: str) -> None:
    with pytest.raises(DataError) as error:
        compare_scores(before, after, **extra)
    assert quoted in error.value.message
    assert error.value.hint.endswith(".")


@pytest.mark.parametrize("wrong", [{"confidence": 95}, {"margin": -1.0}])
def test_settings_out_of_range_are_a_config_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as error:
        compare_scores([0.1], [0.2], **wrong)
    assert next(iter(wrong)) in error.value.message
