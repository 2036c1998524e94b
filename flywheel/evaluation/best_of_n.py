"""What selecting is worth: the control policies beside best-of-N, and how far more candidates help. Pure functions.

Both use candidates that are there already and that the judge was asked about: nothing is generated for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.core.statistics import Array, Estimate, best_weights, interval, resampled_means

MOST_POINTS = 16
"""Numbers of candidates that a curve is drawn at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFigures:
    """What one policy picked: means over the tasks for which the judge knows every policy's pick."""

    policy: str
    tasks: int
    reward: float
    judge: float
    tokens: float
    best_less_this: Estimate | None
    """The judge's difference between best-of-N's picks and this policy's, paired by task; None for best-of-N itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveStep:
    """What the best of ``n`` candidates gives in the mean."""

    n: int
    divergence: float
    """log n - (n - 1) / n: an upper bound, in nats, on how far the picks are from what the generator writes
    (Stiennon et al., arXiv 2009.01325, appendix G.3)."""
    reward: Estimate
    judge: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Expected reward and judgement of the best of n, for n from 1 to the number sampled."""

    tasks: int
    steps: tuple[CurveStep, ...]
    turns_at: int | None
    """The n after which the judge surely falls while the reward still rises: more candidates find what the reward model
    likes and the judge does not. None where that is not seen."""


def policy_figures(
    picks: Mapping[str, Mapping[str, Array]], *, best: str, confidence: float, resamples: int, seed: int
) -> list[PolicyFigures]:
    """Figures of every policy, best-of-N first, then by what the judge says.

    ``picks`` has for each policy ``reward``, ``judge`` and ``tokens`` of its picks, one number a task, in one order of tasks.
    """
    if best not in picks or picks[best]["judge"].size == 0:
        return []
    policies = [best, *(policy for policy in picks if policy != best)]
    judged = np.stack([picks[best]["judge"] - picks[policy]["judge"] for policy in policies], axis=1)
    drawn = resampled_means(judged, resamples=resamples, seed=seed)
    found = [
        PolicyFigures(
            policy=policy,
            tasks=judged.shape[0],
            reward=float(picks[policy]["reward"].mean()),
            judge=float(picks[policy]["judge"].mean()),
            tokens=float(picks[policy]["tokens"].mean()),
            best_less_this=None
            if policy == best
            else interval(float(judged[:, place].mean()), drawn[:, place], rows=len(judged), confidence=confidence),
        )
        for place, policy in enumerate(policies)
    ]
    return [found[0], *sorted(found[1:], key=lambda one: -one.judge)]


def best_of_n_curve(rewards: Array, judged: Array, *, confidence: float, resamples: int, seed: int) -> Curve | None:
    """The curve from candidates, shape (tasks, candidates); ``rewards`` is ``-inf`` where one cannot be picked.

    None where there are no tasks or fewer than two candidates.
    """
    tasks, most = rewards.shape
    if tasks == 0 or most < 2:
        return None
    order = np.argsort(rewards, axis=1, kind="stable")
    judged, rewards = np.take_along_axis(judged, order, axis=1), np.take_along_axis(rewards, order, axis=1)
    # The best of few may be one that cannot be picked; it is worth what the worst that can be is.
    lowest = np.min(np.where(np.isfinite(rewards), rewards, np.inf), axis=1, keepdims=True)
    rewards = np.where(np.isfinite(rewards), rewards, lowest)
    sizes = steps_of(most)
    weights = best_weights(most, np.array(sizes)).T
    values = np.concatenate([rewards @ weights, judged @ weights], axis=1)
    drawn = resampled_means(values, resamples=resamples, seed=seed)
    means = values.mean(axis=0)

    def estimate(column: int) -> Estimate:
        return interval(float(means[column]), drawn[:, column], rows=tasks, confidence=confidence)

    steps = tuple(
        CurveStep(n=n, divergence=float(np.log(n) - (n - 1) / n), reward=estimate(place), judge=estimate(len(sizes) + place))
        for place, n in enumerate(sizes)
    )
    peak = int(np.argmax(means[len(sizes) :]))
    after = drawn[:, -1] - drawn[:, len(sizes) + peak]
    fall = interval(float(means[-1] - means[len(sizes) + peak]), after, rows=tasks, confidence=confidence)
    rises = means[len(sizes) - 1] > means[peak]
    return Curve(tasks=tasks, steps=steps, turns_at=sizes[peak] if fall.high < 0 and rises else None)


def steps_of(most: int) -> Sequence[int]:
    """Numbers of candidates from 1 to the most, evenly spaced on a logarithmic scale where there are many."""
    if most <= MOST_POINTS:
        return list(range(1, most + 1))
    return sorted({round(float(one)) for one in np.geomspace(1, most, MOST_POINTS)})
