"""What selecting is worth: the control policies beside best-of-N, and how far more candidates help.

Both use candidates that the judge has scored already: nothing is generated for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from flywheel.config import EvaluationConfig
from flywheel.core.seeds import derive
from flywheel.core.statistics import Array, Estimate, best_weights, interval, resampled_means
from flywheel.evaluation.compare import settings
from flywheel.records import Policy, Round
from flywheel.store.evaluations import JudgedCandidates, judged_candidates
from flywheel.store.store import Store

MAX_POINTS = 16
"""Points of a best-of-N curve; where there are more candidates, they are evenly spaced on a logarithmic scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFigures:
    """What one selection policy gives: means over the tasks for which every policy's choice is judged."""

    policy: str
    tasks: int
    reward: float
    judge: float
    tokens: float
    difference: Estimate | None
    """The judge's difference to best-of-N, paired by task: negative where best-of-N is better. None for best-of-N itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """The mean reward and judge score of the best of ``n`` candidates."""

    n: int
    kl: float
    """log n - (n - 1) / n: an upper bound, in nats, on the KL divergence of the winners from the generator
    (Stiennon et al., arXiv 2009.01325, appendix G.3)."""
    reward: Estimate
    judge: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Expected reward and judge score of the best of n, for n from 1 to the number sampled."""

    tasks: int
    points: tuple[CurvePoint, ...]
    over_optimized_after: int | None
    """The n after which the judge's score falls, by its interval, while the reward still rises; None where it does not."""


def policies_of(store: Store, round_: Round) -> list[PolicyFigures]:
    """What each policy gives in a round, best-of-N first; empty where the judge scored no candidates."""
    return policy_figures(_judged(store, round_), settings(round_), derive("policies", round_.round))


def policy_figures(rows: JudgedCandidates, config: EvaluationConfig, seed: int) -> list[PolicyFigures]:
    """Figures of every policy, best-of-N first, then by the judge's score; empty where best-of-N selected nothing."""
    # A policy without choices is left out: max-logprob has none where an engine gives no logprobs.
    policies = [policy for policy in Policy if rows.picked[policy].any()]
    if Policy.BEST not in policies:
        return []
    shared = np.isin(rows.task_ids, reduce(np.intersect1d, (rows.task_ids[rows.picked[policy]] for policy in policies)))
    choices = [rows.picked[policy] & shared for policy in policies]
    judged = np.stack([rows.judge[choice] for choice in choices], axis=1)
    differences, tasks = judged - judged[:, :1], len(judged)
    if not tasks:
        return []
    resampled = resampled_means(differences, resamples=config.resamples, seed=seed)

    def difference(column: int) -> Estimate:
        return interval(float(differences[:, column].mean()), resampled[:, column], rows=tasks, confidence=config.confidence)

    best, *others = (
        PolicyFigures(
            policy=policy,
            tasks=tasks,
            reward=float(rows.reward[choice].mean()),
            judge=float(rows.judge[choice].mean()),
            tokens=float(rows.tokens[choice].mean()),
            difference=None if policy == Policy.BEST else difference(column),
        )
        for column, (policy, choice) in enumerate(zip(policies, choices, strict=True))
    )
    return [best, *sorted(others, key=lambda other: -other.judge)]


def curve_of(store: Store, round_: Round) -> Curve | None:
    """The best-of-N curve of a round, over tasks with all candidates judged; None where the judge scored no candidates."""
    rows = _judged(store, round_)
    if not len(rows.task_ids):
        return None
    _, place, counts = np.unique(rows.task_ids, return_inverse=True, return_counts=True)
    complete = (counts == counts.max())[place]
    # A candidate that was cut at the token limit never wins.
    rewards = np.where(rows.stop, rows.reward, -np.inf)[complete].reshape(-1, counts.max())
    has_winner = np.isfinite(rewards).any(axis=1)
    judged = rows.judge[complete].reshape(rewards.shape)
    return best_of_n_curve(rewards[has_winner], judged[has_winner], settings(round_), derive("curve", round_.round))


def best_of_n_curve(rewards: Array, judged: Array, config: EvaluationConfig, seed: int) -> Curve | None:
    """The curve from candidates, shape (tasks, candidates); ``rewards`` is ``-inf`` for a candidate that cannot win.

    None where there are no tasks or fewer than two candidates.
    """
    tasks, most = rewards.shape
    if tasks == 0 or most < 2:
        return None
    order = np.argsort(rewards, axis=1, kind="stable")
    judged, rewards = np.take_along_axis(judged, order, axis=1), np.take_along_axis(rewards, order, axis=1)
    # The best of few may be one that cannot win; its reward counts as the lowest of those that can.
    lowest = np.min(rewards, axis=1, keepdims=True, where=np.isfinite(rewards), initial=np.inf)
    rewards = np.where(np.isfinite(rewards), rewards, lowest)
    spaced = np.linspace if most <= MAX_POINTS else np.geomspace
    sizes = np.unique(spaced(1, most, min(most, MAX_POINTS)).round().astype(int))
    weights = best_weights(most, sizes).T
    values = np.concatenate([rewards @ weights, judged @ weights], axis=1)
    means, resampled = values.mean(axis=0), resampled_means(values, resamples=config.resamples, seed=seed)

    def estimate(value: float, drawn: Array) -> Estimate:
        return interval(float(value), drawn, rows=tasks, confidence=config.confidence)

    estimates = list(map(estimate, means, resampled.T))
    peak = int(np.argmax(means[len(sizes) :]))
    judge_peak = len(sizes) + peak
    falls = estimate(means[-1] - means[judge_peak], resampled[:, -1] - resampled[:, judge_peak]).high < 0
    rises = means[len(sizes) - 1] > means[peak]
    return Curve(
        tasks=tasks,
        points=tuple(
            CurvePoint(n=n, kl=float(np.log(n) - (n - 1) / n), reward=reward, judge=judge)
            for n, reward, judge in zip(sizes.tolist(), estimates, estimates[len(sizes) :], strict=False)
        ),
        over_optimized_after=int(sizes[peak]) if falls and rises else None,
    )


def _judged(store: Store, round_: Round) -> JudgedCandidates:
    return judged_candidates(store.path, round_.tasks_of, round_.reward_model or "", round_.judge)
