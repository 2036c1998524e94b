"""Paired differences with their intervals and tests: pure functions on arrays of one value per task.

The samples of a task are correlated, so a task is one observation: its values are averaged first, and whole tasks are
resampled.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
POWER = 0.8
"""With which a smallest detectable difference would have been seen, and tasks are counted (Cohen's convention)."""
BLOCK = 200_000
"""Draws that are in memory at once: what a core's cache holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its confidence interval."""

    value: float
    low: float
    high: float


def resampled_means(columns: Array, *, resamples: int, seed: int) -> Array:
    """Means of every column, shape (resamples, columns), in resamples of the rows drawn with replacement.

    All columns see the same rows, so figures that combine several of them stay consistent. Counts of the
    drawn rows times values are the sums: one matrix product for all columns. Memory is bounded by ``BLOCK``.
    """
    rows = len(columns)
    rng = np.random.default_rng(seed)
    kind = np.uint16 if rows < 1 << 16 else np.uint32
    size, blocks = max(1, BLOCK // rows), []
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        drawn = rng.integers(rows, size=(count, rows), dtype=kind).astype(np.intp)
        drawn += np.arange(count)[:, None] * rows
        counts = np.bincount(drawn.ravel(), minlength=count * rows).reshape(count, rows)
        blocks.append(counts.astype(np.float64) @ columns / rows)
    return np.concatenate(blocks)


def interval(value: float, resampled: Array, *, rows: int, confidence: float) -> Estimate:
    """A figure's percentile interval, widened for few rows.

    The plain percentile interval is too narrow by the factor that a normal quantile is smaller than Student's and n is
    smaller than n - 1, so it looks further into the tails (Hesterberg, What Teachers Should Know about the Bootstrap,
    arXiv 1411.5279, section 5.3: the expanded percentile interval).
    """
    tail = (1 - confidence) / 2
    if rows > 1:
        tail = float(stats.norm.cdf(np.sqrt(rows / (rows - 1)) * stats.t.ppf(tail, rows - 1)))
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Estimate(value=value, low=float(low), high=float(high))


def bootstrap_mean(values: Array, *, confidence: float, resamples: int, seed: int) -> Estimate:
    """Mean of one value per task, with its bootstrap interval over tasks.

    One value per task makes this the bootstrap clustered by task (Efron & Tibshirani, An Introduction to the
    Bootstrap, chapter 13; clusters are resampled whole).
    """
    means = resampled_means(values[:, None], resamples=resamples, seed=seed)[:, 0]
    return interval(float(values.mean()), means, rows=values.size, confidence=confidence)


def difference_p(differences: Array) -> float:
    """Two-sided p-value of the paired t-test over tasks. 1.0 for fewer than two tasks, or no difference at all."""
    if differences.size < 2 or not differences.any():
        return 1.0
    with warnings.catch_warnings(action="ignore"):  # equal differences have no variance: p is 0
        return float(stats.ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: the chance of one false alarm or more among all of them stays below what each is compared with.

    Holm, A Simple Sequentially Rejective Multiple Test Procedure (1979).
    """
    order = np.argsort(p_values)
    adjusted = np.maximum.accumulate(np.sort(p_values) * np.arange(len(p_values), 0, -1))
    return [float(p) for p in np.minimum(1.0, adjusted)[np.argsort(order)]]


def smallest_detectable(values: Array, *, confidence: float) -> float:
    """The smallest true mean difference that this many tasks would have shown with the power `POWER`.

    Normal approximation: (z for the confidence + z for the power) x standard error (Cohen, Statistical Power
    Analysis, section 2.3). ``nan`` for fewer than two tasks.
    """
    if values.size < 2:
        return float("nan")
    return float((_z(confidence) + stats.norm.ppf(POWER)) * values.std(ddof=1) / np.sqrt(values.size))


def tasks_needed(values: Array, effect: float, *, confidence: float) -> int | None:
    """How many such tasks would show a true mean difference of ``effect``; None for fewer than two tasks."""
    if values.size < 2:
        return None
    return max(2, int(np.ceil(values.size * (smallest_detectable(values, confidence=confidence) / effect) ** 2)))


def _z(confidence: float) -> float:
    """The normal quantile of a two-sided interval."""
    return float(stats.norm.ppf((1 + confidence) / 2))


def best_weights(candidates: int, sizes: NDArray[np.int_]) -> Array:
    """The chance of each candidate, by rising rank, to be the best of n drawn without replacement: (sizes, candidates).

    Weights times figures in the order of the rewards is what best-of-n gives, as the mean over all subsets of size n, which is
    the unbiased estimate (as pass@k in Chen et al., arXiv 2107.03374, section 2.1): C(i, n) of C(N, n) subsets have their best
    among the first i candidates.
    """
    rank, size = np.arange(1, candidates + 1)[None, :], sizes[:, None]
    return np.diff(stats.hypergeom.pmf(size, candidates, rank, size), axis=1, prepend=0.0)


def wilson(outcomes: Array, *, confidence: float) -> Estimate:
    """The share of successes with its score interval, which stays inside [0, 1] (Wilson 1927; a tie is half a success)."""
    share, rows = float(outcomes.mean()), outcomes.size
    z = _z(confidence)
    centre = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return Estimate(value=share, low=float(centre - half), high=float(centre + half))


def mean_of_means(groups: Sequence[Array], *, confidence: float) -> Estimate:
    """The average of the groups' means, each group counting the same, with its normal interval.

    The variance of the average is the sum of the means' variances over the square of their number (groups are
    independent).
    """
    value = float(np.mean([group.mean() for group in groups]))
    variance = sum(group.var(ddof=1) / group.size for group in groups if group.size > 1) / len(groups) ** 2
    half = float(_z(confidence) * np.sqrt(variance))
    return Estimate(value=value, low=value - half, high=value + half)
