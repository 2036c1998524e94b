"""The policies and the curve of a round, from the candidates that its judge was asked about."""

from __future__ import annotations

import numpy as np

from flywheel.core.seeds import derive
from flywheel.core.statistics import Array
from flywheel.evaluation.best_of_n import Curve, PolicyFigures, best_of_n_curve, policy_figures
from flywheel.evaluation.compare import settings
from flywheel.records import Policy, Round
from flywheel.store.evaluations import JudgedCandidates, judged_candidates
from flywheel.store.store import Store


def policies_of(store: Store, made: Round) -> list[PolicyFigures]:
    """What each policy picked in a round, best-of-N first; empty where the judge was not asked."""
    rows, config = _judged(store, made), settings(made)
    picks: dict[str, dict[str, Array]] = {}
    per_policy = {
        policy: {task: place for place, task in zip(np.flatnonzero(chosen), rows.task_ids[chosen], strict=True)}
        for policy, chosen in rows.picked.items()
        if chosen.any()
    }
    if not per_policy:
        return []
    # Likeliest has picks only where every candidate's likelihood is known: it must not shrink the others' tasks to none.
    shared = sorted(set.intersection(*(set(found) for found in per_policy.values())))
    for policy, found in per_policy.items():
        places = np.array([found[task] for task in shared], dtype=int)
        picks[policy] = {"reward": rows.reward[places], "judge": rows.judge[places], "tokens": rows.tokens[places]}
    return policy_figures(
        picks, best=Policy.BEST, confidence=config.confidence, resamples=config.resamples, seed=derive("policies", made.round)
    )


def curve_of(store: Store, made: Round) -> Curve | None:
    """Expected reward and judgement of the best of n candidates of a round; None where the judge was not asked.

    Of tasks with all candidates judged; one that was cut at the token limit is never the best.
    """
    rows, config = _judged(store, made), settings(made)
    if not len(rows.task_ids):
        return None
    _, place, counts = np.unique(rows.task_ids, return_inverse=True, return_counts=True)
    most = int(counts.max())
    whole = counts == most
    shape = (int(whole.sum()), most)
    kept = whole[place]
    rewards = np.where(rows.stop, rows.reward, -np.inf)[kept].reshape(shape)
    able = np.isfinite(rewards).any(axis=1)
    return best_of_n_curve(
        rewards[able],
        rows.judge[kept].reshape(shape)[able],
        confidence=config.confidence,
        resamples=config.resamples,
        seed=derive("curve", made.round),
    )


def _judged(store: Store, made: Round) -> JudgedCandidates:
    return judged_candidates(store.path, made.tasks_of, made.reward_model or "", made.judge)
