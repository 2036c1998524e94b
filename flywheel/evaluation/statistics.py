"""Paired differences with their intervals: pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its confidence interval."""

    value: float
    low: float
    high: float


def bootstrap_mean(values: Array, *, confidence: float, resamples: int, seed: int) -> Estimate:
    """Mean of one value per task, with the percentile bootstrap interval over tasks.

    One value per task makes this the bootstrap clustered by task (Efron & Tibshirani, An Introduction to the
    Bootstrap, chapter 13; clusters are resampled whole). Raises ValueError on an empty array.
    """
    if values.size == 0:
        raise ValueError("no values to estimate a mean from")
    means = _resampled_means(values, resamples, np.random.default_rng(seed))
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Estimate(value=float(values.mean()), low=float(low), high=float(high))


def _resampled_means(values: Array, resamples: int, rng: np.random.Generator) -> Array:
    """Means of resamples, drawn a block at a time: memory stays bounded however many tasks there are."""
    block = max(1, 4_000_000 // values.size)
    drawn = (min(block, resamples - start) for start in range(0, resamples, block))
    return np.concatenate([values[rng.integers(values.size, size=(rows, values.size))].mean(axis=1) for rows in drawn])


def smallest_detectable(values: Array, *, confidence: float, power: float = 0.8) -> float:
    """The smallest true mean difference that this many tasks would have shown with the given power.

    Normal approximation: (z for the confidence + z for the power) x standard error (Cohen, Statistical Power
    Analysis, section 2.3). ``nan`` for fewer than two tasks.
    """
    if values.size < 2:
        return float("nan")
    error = values.std(ddof=1) / np.sqrt(values.size)
    return float((stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(power)) * error)


def wilson(outcomes: Array, *, confidence: float) -> Estimate:
    """The share of successes with its score interval, which stays inside [0, 1] (Wilson 1927; a tie is half a success).

    Raises ValueError on an empty array.
    """
    if outcomes.size == 0:
        raise ValueError("no outcomes to estimate a share from")
    share, rows = float(outcomes.mean()), outcomes.size
    z = float(stats.norm.ppf((1 + confidence) / 2))
    centre = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return Estimate(value=share, low=float(centre - half), high=float(centre + half))


def mean_of_means(groups: Sequence[Array], *, confidence: float) -> Estimate:
    """The average of the groups' means, each group counting the same, with its normal interval.

    The variance of the average is the sum of the means' variances over the square of their number (groups are
    independent). Raises ValueError where there is no group or an empty one.
    """
    if not groups or any(group.size == 0 for group in groups):
        raise ValueError("no values to estimate a mean from")
    value = float(np.mean([group.mean() for group in groups]))
    variance = sum(group.var(ddof=1) / group.size for group in groups if group.size > 1) / len(groups) ** 2
    half = float(stats.norm.ppf((1 + confidence) / 2) * np.sqrt(variance))
    return Estimate(value=value, low=value - half, high=value + half)
