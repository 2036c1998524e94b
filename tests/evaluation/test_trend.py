"""Chains of verdicts: as many looks, no more false alarms."""

from __future__ import annotations

import pytest

from flywheel.evaluation.trend import holm_levels, rounds_without_gain


def test_the_level_is_shared_until_a_comparison_fails() -> None:
    alphas = [0.05] * 4
    assert holm_levels([0.001, 0.2, 0.01, 0.02], alphas) == pytest.approx([0.05 / 4, 0.05, 0.05 / 3, 0.05 / 2])
    assert holm_levels([0.03, 0.04, 0.045, 0.9], alphas) == pytest.approx([0.05 / 4] * 4)
    assert holm_levels([], []) == []


@pytest.mark.parametrize(
    ("verdicts", "count"),
    [([], 0), (["improved"], 0), (["improved", "flat"], 1), (["flat", "improved", "worse", "inconclusive"], 2)],
)
def test_rounds_without_gain_are_counted_from_the_end(verdicts: list[str], count: int) -> None:
    assert rounds_without_gain(verdicts) == count
