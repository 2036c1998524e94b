"""Paired differences with their intervals: pure functions on arrays."""

from __future__ import annotations

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
