"""Intervals and tests do as often as they say what they say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from flywheel.core.statistics import (
    best_weights,
    bootstrap_mean,
    difference_p,
    holm,
    resampled_means,
    smallest_detectable,
    tasks_needed,
)


@pytest.mark.parametrize("rows", [15, 150])
def test_the_interval_covers_the_true_mean_as_often_as_it_says(rows: int) -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(400):
        found = bootstrap_mean(rng.normal(0.3, 1, rows), confidence=0.95, resamples=1000, seed=seed)
        covered += found.low <= 0.3 <= found.high
    assert 0.92 <= covered / 400 <= 0.98


def test_the_bootstrap_repeats_and_agrees_with_the_textbook() -> None:
    values = np.random.default_rng(1).normal(0, 1, 1000)
    once, again = (bootstrap_mean(values, confidence=0.95, resamples=4000, seed=3) for _ in range(2))
    assert once == again
    error = values.std(ddof=1) / np.sqrt(values.size)
    assert once.high - once.low == pytest.approx(2 * 1.96 * error, rel=0.05)


def test_columns_are_resampled_together() -> None:
    values = np.random.default_rng(1).normal(0, 1, (40, 1))
    found = resampled_means(np.hstack([values, 2 * values]), resamples=500, seed=0)
    assert found.shape == (500, 2)
    assert found[:, 1] == pytest.approx(2 * found[:, 0])


def test_the_smallest_detectable_difference_shrinks_with_the_root_of_the_tasks() -> None:
    values = np.tile([0.0, 1.0], 200)
    ratio = smallest_detectable(values[:100], confidence=0.95) / smallest_detectable(values, confidence=0.95)
    assert ratio == pytest.approx(2.0, rel=0.01)
    needed = tasks_needed(values, smallest_detectable(values, confidence=0.95), confidence=0.95)
    assert needed in (400, 401)


def test_the_p_value_is_students_paired_t() -> None:
    values = np.random.default_rng(2).normal(0.1, 1, 80)
    assert difference_p(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert difference_p(np.zeros(10)) == 1.0
    assert difference_p(np.ones(10)) == 0.0
    assert difference_p(np.ones(1)) == 1.0


def test_holm_is_the_stepwise_bonferroni() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_holm_keeps_the_chance_of_one_false_alarm_among_many() -> None:
    rng = np.random.default_rng(0)
    alarms = [min(holm(list(rng.random(8)))) <= 0.05 for _ in range(2000)]
    assert np.mean(alarms) <= 0.06


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_best_of_n_is_the_mean_over_all_subsets(n: int) -> None:
    judged = np.array([0.3, 0.1, 0.9, 0.4, 0.7])  # by rising reward
    subsets = itertools.combinations(range(5), n)
    assert (best_weights(5, np.array([n])) @ judged)[0] == pytest.approx(np.mean([judged[max(subset)] for subset in subsets]))


def test_the_weights_of_many_candidates_are_probabilities() -> None:
    weights = best_weights(256, np.array([1, 2, 64, 255, 256]))
    assert weights.sum(axis=1) == pytest.approx(np.ones(5))
    assert weights[-1, -1] == pytest.approx(1.0)
    assert weights[0] == pytest.approx(np.full(256, 1 / 256))
