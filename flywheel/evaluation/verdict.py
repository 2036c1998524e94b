"""Did the round get better? The evidence, and the rules in the order in which they are asked. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from flywheel.config import EvaluationConfig
from flywheel.core.statistics import (
    Array,
    Estimate,
    difference_p,
    interval,
    resampled_means,
    smallest_detectable,
    tasks_needed,
)


class Verdict(StrEnum):
    """What `flywheel compare` answers."""

    IMPROVED = "improved"
    FLAT = "flat"
    WORSE = "worse"
    PROXY_ONLY = "proxy-only"
    """The reward rose and the judge did not: the generator learned the reward model's taste, not the task."""
    COLLAPSING = "collapsing"
    """Outputs lost their variety, or no longer end."""
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Held-out figures of one round, one number per task: its mean over samples. All arrays are in the same order of tasks."""

    name: str
    judge: Array
    reward: Array
    stop: Array
    """Share of the samples that ended by themselves."""
    tokens: Array
    diversity: Array
    """Share of its words that an output has for itself, see `diversity.output_diversity`."""
    length: Array
    """Natural logarithm of 1 + tokens."""
    length_judge: Array
    """Within the task, the sum of products of the samples' lengths and judgements, each less its mean."""
    length_length: Array
    """Within the task, the sum of squares of the lengths less their mean."""
    others: Mapping[str, Array] = field(default_factory=dict)
    """Judges that do not decide, by name; ``nan`` for a task that one does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A figure in both rounds, and the second less the first with its interval."""

    before: float
    after: float
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """Tasks that the second round does better, as well, and worse, as shares; ``net`` is wins less losses."""

    wins: float
    ties: float
    losses: float
    net: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a verdict rests on; differences are the second round less the first, paired by task."""

    base: str
    round: str
    tasks: int
    samples: int
    judge: Difference
    reward: Difference
    equivalence: Estimate
    """The judge's difference with the interval of two one-sided tests, each at 1 - confidence."""
    p: float
    """Two-sided p-value of no difference of the judge."""
    outcomes: Outcomes
    length_controlled: Estimate | None
    """The judge's difference between outputs of equal length; None where no task has samples of different lengths."""
    tokens: Difference
    stop: Difference
    diversity: Difference
    others: Mapping[str, Difference]
    smallest_detectable: float
    """The smallest difference of the judge that could have been seen (80 % power)."""
    tasks_needed: int | None
    """Tasks that show a difference of ``margin`` (80 % power)."""
    min_tasks: int
    margin: float
    rise: float
    max_diversity_drop: float
    max_finish_rate_drop: float
    confidence: float


def gather(
    before: Measured, after: Measured, config: EvaluationConfig, *, seed: int, confidence: float | None = None
) -> Evidence:
    """The differences between two rounds that were evaluated on the same tasks; ``confidence`` replaces the config's."""
    confidence = confidence or config.confidence
    judge, rows = after.judge - before.judge, after.judge.size
    pairs = {
        "judge": (before.judge, after.judge), "reward": (before.reward, after.reward),
        "tokens": (before.tokens, after.tokens), "stop": (before.stop, after.stop),
        "diversity": (before.diversity, after.diversity),
    }  # fmt: skip
    columns = [right - left for left, right in pairs.values()]
    columns += [
        np.sign(judge),
        after.length - before.length,
        before.length_judge + after.length_judge,
        before.length_length + after.length_length,
    ]
    matrix = np.stack(columns, axis=1)
    means, resampled = matrix.mean(axis=0), resampled_means(matrix, resamples=config.resamples, seed=seed)

    def estimate(place: int, level: float = confidence) -> Estimate:
        return interval(float(means[place]), resampled[:, place], rows=rows, confidence=level)

    found = {
        name: _difference(float(left.mean()), float(right.mean()), estimate(place))
        for place, (name, (left, right)) in enumerate(pairs.items())
    }
    return Evidence(
        base=before.name,
        round=after.name,
        tasks=rows,
        samples=config.samples,
        judge=found["judge"],
        reward=found["reward"],
        equivalence=estimate(0, 2 * confidence - 1),
        p=difference_p(judge),
        outcomes=Outcomes(
            wins=float((judge > 0).mean()), ties=float((judge == 0).mean()), losses=float((judge < 0).mean()), net=estimate(5)
        ),
        length_controlled=_length_controlled(means, resampled, rows=rows, confidence=confidence),
        tokens=found["tokens"],
        stop=found["stop"],
        diversity=found["diversity"],
        others={
            name: one
            for name, left in before.others.items()
            if name in after.others
            and (one := _other(left, after.others[name], config, confidence=confidence, seed=seed)) is not None
        },
        smallest_detectable=smallest_detectable(judge, confidence=confidence),
        tasks_needed=tasks_needed(judge, config.margin, confidence=confidence),
        min_tasks=config.min_tasks,
        margin=config.margin,
        rise=config.rise,
        max_diversity_drop=config.max_diversity_drop,
        max_finish_rate_drop=config.max_finish_rate_drop,
        confidence=confidence,
    )


def _difference(before: float, after: float, estimate: Estimate) -> Difference:
    return Difference(before=before, after=after, value=estimate.value, low=estimate.low, high=estimate.high)


def _other(left: Array, right: Array, config: EvaluationConfig, *, confidence: float, seed: int) -> Difference | None:
    """The difference by a judge that does not decide, over the tasks that it knows."""
    known = ~(np.isnan(left) | np.isnan(right))
    if not known.any():
        return None
    left, right = left[known], right[known]
    drawn = resampled_means((right - left)[:, None], resamples=config.resamples, seed=seed)[:, 0]
    value = float((right - left).mean())
    return _difference(float(left.mean()), float(right.mean()), interval(value, drawn, rows=left.size, confidence=confidence))


def _length_controlled(means: Array, resampled: Array, *, rows: int, confidence: float) -> Estimate | None:
    """The judge's difference less what the change of length is worth.

    What a longer output is worth to the judge is measured where nothing else differs: between samples of one task from one
    generator (a regression with a mean of its own for each task and round). The question is that of Dubois et al.,
    Length-Controlled AlpacaEval, arXiv 2404.04475: what would the judge say if both had written as much? ``means`` and
    ``resampled`` end with the differences of length, then the sums of products and of squares.
    """
    if means[8] == 0:
        return None

    def controlled(figures: Array) -> Array:
        products, squares = figures[..., 7], figures[..., 8]
        slope = np.divide(products, squares, out=np.zeros_like(products), where=squares > 0)
        return np.asarray(figures[..., 0] - slope * figures[..., 6])

    return interval(float(controlled(means)), controlled(resampled), rows=rows, confidence=confidence)


def decide(evidence: Evidence) -> Verdict:
    """The verdict that the evidence supports: the first rule that holds."""
    judge, margin = evidence.judge, evidence.margin
    if evidence.tasks < evidence.min_tasks:
        return Verdict.INCONCLUSIVE
    if collapse(evidence) is not None:
        return Verdict.COLLAPSING
    if judge.high < 0:
        return Verdict.WORSE
    if evidence.reward.low > 0 and judge.low <= 0 and judge.high < evidence.rise:
        return Verdict.PROXY_ONLY
    if judge.low > 0:
        return Verdict.IMPROVED
    if -margin < evidence.equivalence.low and evidence.equivalence.high < margin:
        return Verdict.FLAT
    return Verdict.INCONCLUSIVE


def collapse(evidence: Evidence) -> str | None:
    """What gave way, in words; None where variety and endings hold."""
    diversity, stop = evidence.diversity, evidence.stop
    if diversity.high < -evidence.max_diversity_drop * diversity.before:
        return f"outputs have {diversity.after:.2f} of their words for themselves, it was {diversity.before:.2f}"
    if stop.high < -evidence.max_finish_rate_drop:
        return f"{100 * stop.after:.0f} % of the outputs end by themselves, it was {100 * stop.before:.0f} %"
    return None


def doubts(evidence: Evidence) -> Iterator[str]:
    """What speaks against taking the judge's difference for what it seems."""
    judge, controlled = evidence.judge, evidence.length_controlled
    if judge.low > 0 and controlled is not None and controlled.low <= 0 and evidence.tokens.low > 0:
        yield (
            f"outputs got longer ({evidence.tokens.before:.1f} to {evidence.tokens.after:.1f} tokens), and between outputs of "
            f"equal length the judge moved by {controlled.value:+.3f} ({controlled.low:+.3f} to {controlled.high:+.3f})"
        )
    for name, other in evidence.others.items():
        if (judge.low > 0 and other.high < 0) or (judge.high < 0 and other.low > 0):
            yield f"the judge {name} moved the other way, by {other.value:+.3f} ({other.low:+.3f} to {other.high:+.3f})"


def sentence(evidence: Evidence, verdict: Verdict) -> str:
    """The verdict in plain words."""
    judge, reward = evidence.judge, evidence.reward
    moved = (
        f"the judge moved by {judge.value:+.3f} ({judge.low:+.3f} to {judge.high:+.3f}), "
        f"from {judge.before:.3f} to {judge.after:.3f}, on {evidence.tasks:,} held-out task{'s' * (evidence.tasks != 1)}"
    )
    rewarded = f"the reward by {reward.value:+.2f} ({reward.low:+.2f} to {reward.high:+.2f})"
    needed = f", {evidence.tasks_needed:,} tasks would show {evidence.margin:g}" if evidence.tasks_needed else ""
    unseen = f"a difference under {evidence.smallest_detectable:.3f} could not have been seen{needed}"
    if evidence.tasks < evidence.min_tasks:
        least = max(evidence.min_tasks, evidence.tasks_needed or 0)
        unseen = f"fewer than {evidence.min_tasks} tasks (evaluation.min_tasks) show nothing, at least {least:,} are needed"
    because = {
        Verdict.IMPROVED: "its whole interval is above zero",
        Verdict.WORSE: "its whole interval is below zero",
        Verdict.FLAT: f"it is within ± {evidence.margin:g}",
        Verdict.PROXY_ONLY: "the reward rose and the judge did not follow",
        Verdict.COLLAPSING: collapse(evidence) or "",
        Verdict.INCONCLUSIVE: unseen,
    }[verdict]
    return f"{evidence.round} against {evidence.base}: {verdict}: {moved}, {rewarded}; {because}."
