"""The verdict on a comparison: the evidence, and the rules in the order in which they apply. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from flywheel.core.html import html_table
from flywheel.core.statistics import Estimate


class Verdict(StrEnum):
    """What `flywheel compare` answers."""

    IMPROVED = "improved"
    FLAT = "flat"
    WORSE = "worse"
    PROXY_ONLY = "proxy-only"
    """The reward rose and the judge did not: the generator over-optimizes the reward model."""
    COLLAPSING = "collapsing"
    """Outputs lost diversity, or no longer finish."""
    INCONCLUSIVE = "inconclusive"


CLAIMS = {
    Verdict.IMPROVED: "{round} improved over {base}",
    Verdict.FLAT: "{round} is flat against {base}",
    Verdict.WORSE: "{round} is worse than {base}",
    Verdict.PROXY_ONLY: "{round} is proxy-only against {base}",
    Verdict.COLLAPSING: "{round} is collapsing against {base}",
    Verdict.INCONCLUSIVE: "{round} against {base} is inconclusive",
}


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A figure before and after, and the paired difference, after less before, with its interval."""

    before: float
    after: float
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Shares of the tasks on which the judge scores the second round higher, equal and lower."""

    win: float
    tie: float
    loss: float
    net: Estimate
    """Win rate less loss rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a verdict rests on. Figures that were not measured are None; two rounds have all but the length-controlled one."""

    base: str
    round: str
    tasks: int
    samples: int
    judge: Difference
    equivalence: Estimate
    """The judge's difference with the interval of two one-sided tests, each at 1 - confidence."""
    p_value: float
    """Two-sided p-value of the paired t-test over tasks that the judge's difference is zero."""
    rates: Rates
    length_controlled: Estimate | None
    """The judge's difference at equal length; None where lengths do not vary."""
    reward: Difference | None
    tokens: Difference | None
    finish_rate: Difference | None
    diversity: Difference | None
    """Output diversity, see `diversity.output_diversity`."""
    others: Mapping[str, Difference]
    """Judges that do not decide, by name."""
    smallest_detectable: float
    """The smallest true difference of the judge that these tasks detect with 80 % power."""
    tasks_needed: int | None
    """Tasks that detect a difference of ``margin`` with 80 % power."""
    min_tasks: int
    margin: float
    rise: float
    max_diversity_drop: float
    max_finish_rate_drop: float
    confidence: float


@dataclass(frozen=True, slots=True, repr=False)
class Comparison:
    """The verdict on a round against another, with its evidence."""

    evidence: Evidence

    @property
    def verdict(self) -> Verdict:
        """The first rule that the evidence supports."""
        return decide(self.evidence)

    @property
    def difference(self) -> float:
        """The judge's mean difference, the second round less the first."""
        return self.evidence.judge.value

    @property
    def interval(self) -> Interval:
        """The confidence interval of the difference."""
        return Interval(self.evidence.judge.low, self.evidence.judge.high)

    @property
    def sentence(self) -> str:
        """The verdict in plain words."""
        return sentence(self.evidence, self.verdict)

    @property
    def caveats(self) -> list[str]:
        """Findings that speak against taking the difference at face value."""
        return list(caveats(self.evidence))

    def as_json(self) -> dict[str, Any]:
        """Plain values: ``verdict`` on top, then the evidence."""
        return {"verdict": str(self.verdict), "sentence": self.sentence, "caveats": self.caveats} | asdict(self.evidence)

    def __repr__(self) -> str:
        return f"<Comparison {self.verdict}: {self.sentence}>"

    def _repr_html_(self) -> str:
        evidence = self.evidence
        figures = {
            "judge": evidence.judge, "reward": evidence.reward, "tokens": evidence.tokens,
            "finish rate": evidence.finish_rate, "output diversity": evidence.diversity,
        }  # fmt: skip
        rows = [
            (name, f"{figure.before:.3f}", f"{figure.after:.3f}", with_interval(figure, evidence.confidence))
            for name, figure in figures.items()
            if figure is not None
        ]
        caption = " But ".join([self.sentence, *(f"{caveat}." for caveat in self.caveats)])
        return html_table(caption, ("held-out", evidence.base, evidence.round, "Δ"), rows)


def decide(evidence: Evidence) -> Verdict:
    """The verdict that the evidence supports: the first rule that holds."""
    judge, reward, margin = evidence.judge, evidence.reward, evidence.margin
    if evidence.tasks < evidence.min_tasks:
        return Verdict.INCONCLUSIVE
    if collapse(evidence) is not None:
        return Verdict.COLLAPSING
    if judge.high < 0:
        return Verdict.WORSE
    if reward is not None and reward.low > 0 and judge.low <= 0 and judge.high < evidence.rise:
        return Verdict.PROXY_ONLY
    if judge.low > 0:
        return Verdict.IMPROVED
    if -margin < evidence.equivalence.low and evidence.equivalence.high < margin:
        return Verdict.FLAT
    return Verdict.INCONCLUSIVE


def collapse(evidence: Evidence) -> str | None:
    """Which figure collapsed, in words; None where diversity and finish rate hold."""
    diversity, finish = evidence.diversity, evidence.finish_rate
    if diversity is not None and diversity.high < -evidence.max_diversity_drop * diversity.before:
        return f"output diversity fell from {diversity.before:.2f} to {diversity.after:.2f}"
    if finish is not None and finish.high < -evidence.max_finish_rate_drop:
        return f"the finish rate fell from {100 * finish.before:.0f} % to {100 * finish.after:.0f} %"
    return None


def caveats(evidence: Evidence) -> Iterator[str]:
    """Findings that speak against taking the judge's difference at face value; they do not change the verdict."""
    judge, controlled, tokens = evidence.judge, evidence.length_controlled, evidence.tokens
    if judge.low > 0 and controlled is not None and controlled.low <= 0 and tokens is not None and tokens.low > 0:
        yield (
            f"outputs got longer ({tokens.before:.1f} to {tokens.after:.1f} tokens), and the length-controlled difference is "
            f"{with_interval(controlled, evidence.confidence)}"
        )
    for name, other in evidence.others.items():
        if (judge.low > 0 and other.high < 0) or (judge.high < 0 and other.low > 0):
            yield f"the judge {name} disagrees: {with_interval(other, evidence.confidence)}"


def sentence(evidence: Evidence, verdict: Verdict) -> str:
    """The verdict in plain words."""
    judge, tasks = evidence.judge, evidence.tasks
    claim = CLAIMS[verdict].format(base=evidence.base, round=evidence.round)
    figures = (
        f"judge {with_interval(judge, evidence.confidence)}, {judge.before:.3f} to {judge.after:.3f} on {tasks:,} held-out "
        f"task{'s' * (tasks != 1)}"
    )
    reason = _reason(evidence, verdict)
    return f"{claim}: {figures}{f'; {reason}' if reason else ''}."


def _reason(evidence: Evidence, verdict: Verdict) -> str | None:
    """Why the verdict is not what the judge's interval alone says."""
    reward, needed = evidence.reward, evidence.tasks_needed or 0
    match verdict:
        case Verdict.FLAT:
            return f"any difference is within ± {evidence.margin:g}"
        case Verdict.PROXY_ONLY if reward is not None:
            return f"the reward rose by {with_interval(reward, evidence.confidence, digits=2)} and the judge did not follow"
        case Verdict.COLLAPSING:
            return collapse(evidence)
        case Verdict.INCONCLUSIVE if evidence.tasks < evidence.min_tasks:
            least = max(evidence.min_tasks, needed)
            return f"fewer than {evidence.min_tasks} tasks (`evaluation.min_tasks`) prove nothing, use at least {least:,}"
        case Verdict.INCONCLUSIVE:
            return (
                f"the smallest detectable difference is {evidence.smallest_detectable:.3f}, and {evidence.margin:g} needs "
                f"{needed:,} tasks"
            )
        case _:
            return None


def with_interval(estimate: Estimate | Difference, confidence: float, *, digits: int = 3) -> str:
    """A difference with its confidence interval."""
    return (
        f"{estimate.value:+.{digits}f} ({100 * confidence:.3g} % CI {estimate.low:+.{digits}f} to {estimate.high:+.{digits}f})"
    )
