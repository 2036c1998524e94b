"""What selecting is worth: control policies and the curve."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from flywheel.config import EvaluationConfig
from flywheel.core.statistics import Array
from flywheel.evaluation.best_of_n import best_of_n_curve, policy_figures
from flywheel.records import Policy
from flywheel.store.evaluations import JudgedCandidates

CONFIG = EvaluationConfig(tasks="t", judge="m:f", resamples=1000)
FEW = EvaluationConfig(tasks="t", judge="m:f", resamples=10)


def candidates(judged_by_reward: float, *, tasks: int = 300, n: int = 16, beyond: float = 99.0) -> tuple[Array, Array]:
    """Candidates whose judgement follows the reward up to a point, and falls beyond it."""
    rng = np.random.default_rng(0)
    rewards = rng.normal(0, 1, (tasks, n))
    judged = judged_by_reward * np.where(rewards < beyond, rewards, 2 * beyond - rewards) + rng.normal(0, 0.3, (tasks, n))
    return rewards, judged


def test_the_curve_rises_with_the_reward_where_the_judge_agrees() -> None:
    curve = best_of_n_curve(*candidates(1.0), CONFIG, 0)
    assert curve is not None
    assert [point.n for point in curve.points] == list(range(1, 17))
    assert curve.points[0].kl == 0.0
    assert curve.points[1].kl == pytest.approx(np.log(2) - 0.5)
    assert all(
        point.reward.value < following.reward.value for point, following in zip(curve.points, curve.points[1:], strict=False)
    )
    # The expected highest of 16 normal draws.
    assert curve.points[-1].reward.value == pytest.approx(1.766, abs=0.1)
    assert curve.points[-1].judge.value > curve.points[0].judge.value + 1
    assert curve.over_optimized_after is None


def test_the_turn_of_the_judge_is_found() -> None:
    curve = best_of_n_curve(*candidates(1.0, beyond=0.8), CONFIG, 0)
    assert curve is not None
    assert curve.over_optimized_after in range(2, 8)
    blind = best_of_n_curve(*candidates(0.0), CONFIG, 0)
    assert blind is not None
    assert blind.over_optimized_after is None


def test_a_candidate_that_cannot_be_picked_is_never_the_best() -> None:
    rewards, judged = candidates(1.0, n=2)
    rewards[:, 0], judged[:, 0] = -np.inf, 100.0
    curve = best_of_n_curve(rewards, judged, FEW, 0)
    assert curve is not None
    assert curve.points[-1].judge.value == pytest.approx(judged[:, 1].mean())


def test_nothing_to_draw_gives_no_curve() -> None:
    assert best_of_n_curve(np.zeros((0, 4)), np.zeros((0, 4)), FEW, 0) is None
    assert best_of_n_curve(np.zeros((5, 1)), np.zeros((5, 1)), FEW, 0) is None


def test_many_candidates_are_drawn_at_few_points() -> None:
    curve = best_of_n_curve(*candidates(1.0, tasks=20, n=64), FEW, 0)
    assert curve is not None
    assert [point.n for point in curve.points] == [1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 28, 37, 49, 64]


def judged(policies: Mapping[Policy, Array]) -> JudgedCandidates:
    """Rows in which each policy selects a candidate of its own, with these judgements, rewards 0, 1, … and tokens 5, 6, …."""
    tasks, places = len(next(iter(policies.values()))), np.arange(len(policies))
    candidates = np.tile(places, tasks)
    picked = {policy: np.zeros(candidates.size, dtype=bool) for policy in Policy}
    picked |= {policy: candidates == place for place, policy in enumerate(policies)}
    return JudgedCandidates(
        task_ids=np.repeat([f"task {number:04}" for number in range(tasks)], len(policies)),
        candidates=candidates,
        reward=candidates.astype(float),
        judge=np.stack(list(policies.values()), axis=1).ravel(),
        tokens=candidates + 5.0,
        stop=np.ones(candidates.size, dtype=bool),
        picked=picked,
    )


def test_policies_are_compared_on_the_same_tasks() -> None:
    rng = np.random.default_rng(0)
    easy = rng.normal(0, 3, 400)
    rows = judged({Policy.RANDOM: easy, Policy.BEST: easy + rng.normal(0.1, 0.2, 400)})
    best, other = policy_figures(rows, CONFIG, 0)
    assert (best.policy, other.policy, best.difference) == ("best", "random", None)
    assert (best.tasks, best.reward, best.tokens, other.reward, other.tokens) == (400, 1.0, 6.0, 0.0, 5.0)
    assert other.difference is not None
    assert other.difference.high < 0
    assert other.difference.value == pytest.approx(-0.1, abs=0.03)
    # Random has no judged choice for the first 100 tasks, which leaves them out for every policy.
    rows.picked[Policy.RANDOM][:200] = False
    assert [figures.tasks for figures in policy_figures(rows, FEW, 0)] == [300, 300]
    nothing = judged({Policy.RANDOM: easy})
    assert policy_figures(nothing, FEW, 0) == []
