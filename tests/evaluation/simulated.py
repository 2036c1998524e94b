"""Pairs of rounds whose truth is known: held-out figures drawn from a model of tasks, samples and judges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from flywheel.core.statistics import Array
from flywheel.evaluation.evidence import Measured

POPULATION = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is true of a pair of rounds; differences are the second round less the first."""

    tasks: int = 400
    samples: int = 4
    binary: bool = True
    """Judgements are right or wrong, else any number with a standard deviation of about 1 over tasks."""
    spread: float = 2.1
    """How unlike tasks are: standard deviation of their log-odds, or of their mean judgement. Samples of a task are alike.
    Together with ``level`` this gives the figures of nano's r1: 30 % right, half of the variance between tasks."""
    level: float = -1.5
    """Log-odds, or mean judgement, of the first round."""
    judge: float = 0.0
    """True difference of the judge's mean."""
    uneven: float = 0.5
    """How unlike the change is from task to task, in the units of ``spread``."""
    reward: float = 0.0
    skew: float = 0.6
    """Standard deviation of the logarithm of lengths."""
    longer: float = 0.0
    """True difference of the mean logarithm of length."""
    length_bias: float = 0.0
    """What e times the length is worth to the judge."""
    diversity: float = 0.0
    finish_rate: float = 0.0


def pair(truth: Truth, seed: int) -> tuple[Measured, Measured]:
    """Two rounds drawn from a truth."""
    rng = np.random.default_rng([seed, 7])
    shape = (truth.tasks, truth.samples)
    ability = rng.normal(truth.level, truth.spread, truth.tasks)
    habit = rng.normal(3.0, 0.5, (truth.tasks, 1))
    change = rng.normal(0.0, truth.uneven, truth.tasks) if truth.judge or truth.reward else np.zeros(truth.tasks)
    found = []
    for after in (False, True):
        lengths = habit + rng.normal(0, truth.skew, shape) + after * truth.longer
        shift = after * (_shift(truth) + change)
        merit = (ability + shift)[:, None] + truth.length_bias * (lengths - 3.0)
        judge = (rng.random(shape) < expit(merit)).astype(float) if truth.binary else merit + rng.normal(0, 1, shape)
        reward = 0.5 * judge + 0.3 * (lengths - 3.0) + rng.normal(0, 1, shape) + after * truth.reward
        found.append(
            measured(
                f"r{1 + after}",
                judge,
                reward,
                np.round(np.exp(lengths)),
                (rng.random(shape) < 0.95 + after * truth.finish_rate).astype(float),
                np.clip(rng.normal(0.6 + after * truth.diversity, 0.2, truth.tasks), 0, 1),
            )
        )
    return found[0], found[1]


def _shift(truth: Truth) -> float:
    """What must be added to every task so that the judge's mean moves by what is true."""
    if not truth.judge:
        return 0.0
    if not truth.binary:
        return truth.judge
    rng = np.random.default_rng(0)
    ability = rng.normal(truth.level, truth.spread, POPULATION)
    changed = ability + rng.normal(0.0, truth.uneven, POPULATION)
    wanted, low, high = expit(ability).mean() + truth.judge, -5.0, 5.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(changed + middle).mean() < wanted else (low, middle)
    return (low + high) / 2


def measured(name: str, judge: Array, reward: Array, tokens: Array, finished: Array, diversity: Array) -> Measured:
    """The figures of a round from its samples, shape (tasks, samples), and one figure of diversity a task."""
    length = np.log1p(tokens)
    off_length, off_judge = length - length.mean(axis=1, keepdims=True), judge - judge.mean(axis=1, keepdims=True)
    return Measured(
        name=name,
        judge=judge.mean(axis=1),
        reward=reward.mean(axis=1),
        finish_rate=finished.mean(axis=1),
        tokens=tokens.mean(axis=1),
        diversity=diversity,
        length=length.mean(axis=1),
        products=(off_length * off_judge).sum(axis=1),
        squares=(off_length**2).sum(axis=1),
    )
