"""Did the round get better? The rules, in the order in which they are asked. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from flywheel.config import EvaluationConfig
from flywheel.evaluation.statistics import Array, Estimate, bootstrap_mean, smallest_detectable


class Verdict(StrEnum):
    """What `flywheel compare` answers."""

    IMPROVED = "improved"
    FLAT = "flat"
    WORSE = "worse"
    PROXY_ONLY = "proxy-only"
    """The reward rose and the judge did not: the generator learned the reward model's taste, not the task."""
    COLLAPSING = "collapsing"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a verdict rests on; differences are the second round less the first, paired by task."""

    base: str
    round: str
    tasks: int
    samples: int
    judge_before: float
    judge_after: float
    judge: Estimate
    reward_before: float
    reward_after: float
    reward: Estimate
    smallest_detectable: float
    """The smallest difference of the judge that could have been seen (80 % power)."""
    margin: float
    rise: float
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Held-out figures of one round: one mean per task, both arrays in the same order of tasks."""

    name: str
    judge: Array
    reward: Array


def gather(before: Measured, after: Measured, config: EvaluationConfig, *, seed: int) -> Evidence:
    """The differences between two rounds that were evaluated on the same tasks."""
    judge, reward = after.judge - before.judge, after.reward - before.reward

    def estimate(values: Array) -> Estimate:
        return bootstrap_mean(values, confidence=config.confidence, resamples=config.resamples, seed=seed)

    return Evidence(
        base=before.name,
        round=after.name,
        tasks=int(judge.size),
        samples=config.samples,
        judge_before=float(np.mean(before.judge)),
        judge_after=float(np.mean(after.judge)),
        judge=estimate(judge),
        reward_before=float(np.mean(before.reward)),
        reward_after=float(np.mean(after.reward)),
        reward=estimate(reward),
        smallest_detectable=smallest_detectable(judge, confidence=config.confidence),
        margin=config.margin,
        rise=config.rise,
        confidence=config.confidence,
    )


def decide(evidence: Evidence) -> Verdict:
    """The verdict that the evidence supports: the first rule that holds."""
    judge, reward, margin = evidence.judge, evidence.reward, evidence.margin
    if judge.high < 0:
        return Verdict.WORSE
    if reward.low > 0 and judge.low <= 0 and judge.high < evidence.rise:
        return Verdict.PROXY_ONLY
    if judge.low > 0:
        return Verdict.IMPROVED
    if -margin < judge.low and judge.high < margin:
        return Verdict.FLAT
    return Verdict.INCONCLUSIVE


def sentence(evidence: Evidence, verdict: Verdict) -> str:
    """The verdict in plain words."""
    judge, reward = evidence.judge, evidence.reward
    moved = (
        f"the judge moved by {judge.value:+.3f} ({judge.low:+.3f} to {judge.high:+.3f}), "
        f"from {evidence.judge_before:.3f} to {evidence.judge_after:.3f}, on {evidence.tasks} held-out tasks"
    )
    rewarded = f"the reward by {reward.value:+.2f} ({reward.low:+.2f} to {reward.high:+.2f})"
    because = {
        Verdict.IMPROVED: "its whole interval is above zero",
        Verdict.WORSE: "its whole interval is below zero",
        Verdict.FLAT: f"its whole interval is within ± {evidence.margin}",
        Verdict.PROXY_ONLY: "the reward rose and the judge did not follow",
        Verdict.COLLAPSING: "the outputs lost their variety",
        Verdict.INCONCLUSIVE: f"a difference under {evidence.smallest_detectable:.3f} could not have been seen",
    }[verdict]
    return f"{evidence.round} against {evidence.base}: {verdict}: {moved}, {rewarded}; {because}."
