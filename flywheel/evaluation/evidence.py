"""From held-out figures per task to the evidence of a comparison. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from flywheel.config import EvaluationConfig
from flywheel.core.seeds import derive
from flywheel.core.statistics import (
    Array,
    Estimate,
    bootstrap_mean,
    difference_p,
    interval,
    resampled_means,
    smallest_detectable,
    tasks_needed,
)
from flywheel.evaluation.verdict import Difference, Evidence, Rates

FIGURES = ("judge", "reward", "tokens", "finish_rate", "diversity")
SUMS = ("products", "squares")
LIMITS = {"samples", "min_tasks", "margin", "rise", "max_diversity_drop", "max_finish_rate_drop"}
"""What the rules read from the config."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Held-out figures of one round, one number per task: its mean over samples. All arrays are in the same order of tasks."""

    name: str
    judge: Array
    reward: Array | None = None
    finish_rate: Array | None = None
    tokens: Array | None = None
    diversity: Array | None = None
    """Output diversity, see `diversity.output_diversity`."""
    length: Array | None = None
    """Logarithms of 1 + tokens; with ``products`` and ``squares`` they give the length-controlled difference."""
    products: Array | None = None
    """Sums over the samples of length times judge's score, each less its task's mean."""
    squares: Array | None = None
    """Sums over the samples of the square of length less its task's mean."""
    others: Mapping[str, Array] = field(default_factory=dict)
    """Judges that do not decide, by name, the same in both rounds; ``nan`` for a task without a score."""


def gather(
    before: Measured, after: Measured, config: EvaluationConfig, *, seed: int | None = None, confidence: float | None = None
) -> Evidence:
    """The differences between two rounds that were evaluated on the same tasks.

    The seed of the bootstrap derives from the rounds' names; ``confidence`` replaces the config's.
    """
    seed = derive("compare", before.name, after.name) if seed is None else seed
    confidence = confidence or config.confidence
    judge, rows = after.judge - before.judge, after.judge.size
    both = ((name, (getattr(before, name), getattr(after, name))) for name in (*FIGURES, "length", *SUMS))
    pairs: dict[str, tuple[Array, Array]] = {name: pair for name, pair in both if not any(side is None for side in pair)}
    columns = {name: left + right if name in SUMS else right - left for name, (left, right) in pairs.items()}
    columns["net"] = np.sign(judge)
    matrix = np.stack(list(columns.values()), axis=1)
    means = dict(zip(columns, matrix.mean(axis=0), strict=True))
    resampled = dict(zip(columns, resampled_means(matrix, resamples=config.resamples, seed=seed).T, strict=True))

    def estimate(name: str, level: float = confidence) -> Estimate:
        return interval(float(means[name]), resampled[name], rows=rows, confidence=level)

    if means.get("squares"):
        means["controlled"], resampled["controlled"] = _length_controlled(means), _length_controlled(resampled)
    differences = {name: _difference(*pairs[name], estimate(name)) for name in FIGURES if name in pairs}
    others = {}
    for name, left in before.others.items():
        right = after.others[name]
        if (scored := ~np.isnan(right - left)).any():
            moved = (right - left)[scored]
            mean = bootstrap_mean(moved, confidence=confidence, resamples=config.resamples, seed=seed)
            others[name] = _difference(left[scored], right[scored], mean)
    return Evidence(
        base=before.name,
        round=after.name,
        tasks=rows,
        judge=differences["judge"],
        equivalence=estimate("judge", 2 * confidence - 1),
        p_value=difference_p(judge),
        rates=Rates(
            win=float((judge > 0).mean()), tie=float((judge == 0).mean()), loss=float((judge < 0).mean()), net=estimate("net")
        ),
        length_controlled=estimate("controlled") if "controlled" in means else None,
        reward=differences.get("reward"),
        tokens=differences.get("tokens"),
        finish_rate=differences.get("finish_rate"),
        diversity=differences.get("diversity"),
        others=others,
        smallest_detectable=smallest_detectable(judge, confidence=confidence),
        tasks_needed=tasks_needed(judge, config.margin, confidence=confidence),
        confidence=confidence,
        **config.model_dump(include=LIMITS),
    )


def _difference(before: Array, after: Array, estimate: Estimate) -> Difference:
    return Difference(before=float(before.mean()), after=float(after.mean()), **asdict(estimate))


def _length_controlled(figures: Mapping[str, Array]) -> Array:
    """The judge's difference less what the change of length is worth.

    What a longer output is worth to the judge is measured where nothing else differs: between samples of one task from one
    generator (a regression with a mean of its own for each task and round). The question is that of Dubois et al.,
    Length-Controlled AlpacaEval, arXiv 2404.04475: what would the judge say if both had generated outputs of equal length?
    """
    products, squares = figures["products"], figures["squares"]
    slope = np.divide(products, squares, out=np.zeros_like(products), where=squares > 0)
    return np.asarray(figures["judge"] - slope * figures["length"])
