"""The verdict on a comparison: the evidence, and the rules in the order in which they apply. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
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
    Verdict.IMPROVED: "improved over {base}",
    Verdict.FLAT: "is flat against {base}",
    Verdict.WORSE: "is worse than {base}",
    Verdict.PROXY_ONLY: "is proxy-only against {base}",
    Verdict.COLLAPSING: "is collapsing against {base}",
    Verdict.INCONCLUSIVE: "against {base} is inconclusive",
}


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Estimate):
    """A figure before and after, and the paired difference, after less before, with its interval."""

    before: float
    after: float


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

    def with_interval(self, figure: Estimate, *, digits: int = 3) -> str:
        """A difference with its confidence interval, as text."""
        value, low, high = (f"{number:+.{digits}f}" for number in (figure.value, figure.low, figure.high))
        return f"{value} ({100 * self.confidence:.3g} % CI {low} to {high})"


@dataclass(frozen=True, slots=True, repr=False)
class Comparison:
    """The verdict on a round against another, with its evidence."""

    evidence: Evidence

    @property
    def verdict(self) -> Verdict:
        """The first rule that the evidence supports."""
        evidence, judge, reward = self.evidence, self.evidence.judge, self.evidence.reward
        if evidence.tasks < evidence.min_tasks:
            return Verdict.INCONCLUSIVE
        if _collapse(evidence):
            return Verdict.COLLAPSING
        if judge.high < 0:
            return Verdict.WORSE
        if reward and reward.low > 0 and judge.low <= 0 and judge.high < evidence.rise:
            return Verdict.PROXY_ONLY
        if judge.low > 0:
            return Verdict.IMPROVED
        if -evidence.margin < evidence.equivalence.low and evidence.equivalence.high < evidence.margin:
            return Verdict.FLAT
        return Verdict.INCONCLUSIVE

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
        evidence, judge = self.evidence, self.evidence.judge
        claim = f"{evidence.round} {CLAIMS[self.verdict].format(base=evidence.base)}"
        tasks = f"{evidence.tasks:,} held-out task{'s' * (evidence.tasks != 1)}"
        figures = f"judge {evidence.with_interval(judge)}, {judge.before:.3f} to {judge.after:.3f} on {tasks}"
        reason = _reason(evidence, self.verdict)
        return f"{claim}: {figures}{f'; {reason}' if reason else ''}."

    @property
    def caveats(self) -> list[str]:
        """Findings that speak against taking the difference at face value; they do not change the verdict."""
        evidence, judge, tokens = self.evidence, self.evidence.judge, self.evidence.tokens
        controlled, findings = evidence.length_controlled, []
        if judge.low > 0 and controlled and controlled.low <= 0 and tokens and tokens.low > 0:
            longer = f"outputs got longer ({tokens.before:.1f} to {tokens.after:.1f} tokens)"
            findings.append(f"{longer}; the length-controlled difference is {evidence.with_interval(controlled)}")
        for name, other in evidence.others.items():
            if (judge.low > 0 and other.high < 0) or (judge.high < 0 and other.low > 0):
                findings.append(f"judge {name} disagrees: {evidence.with_interval(other)}")
        return findings

    def as_json(self) -> dict[str, Any]:
        """Plain values: ``verdict`` on top, then the evidence."""
        return {"verdict": str(self.verdict), "sentence": self.sentence, "caveats": self.caveats} | asdict(self.evidence)

    def __repr__(self) -> str:
        return f"<Comparison {self.verdict}: {self.sentence}>"

    def _repr_html_(self) -> str:
        evidence = self.evidence
        names = ("judge", "reward", "tokens", "finish rate", "output diversity")
        figures = (evidence.judge, evidence.reward, evidence.tokens, evidence.finish_rate, evidence.diversity)
        rows = [
            (name, figure.before, figure.after, evidence.with_interval(figure))
            for name, figure in zip(names, figures, strict=True)
            if figure
        ]
        caption = " But ".join([self.sentence, *(f"{caveat}." for caveat in self.caveats)])
        return html_table(caption, ("held-out", evidence.base, evidence.round, "Δ"), rows)


def _collapse(evidence: Evidence) -> str | None:
    """Which figure collapsed, in words; None where diversity and finish rate hold."""
    diversity, finish = evidence.diversity, evidence.finish_rate
    if diversity and diversity.high < -evidence.max_diversity_drop * diversity.before:
        return f"output diversity fell from {diversity.before:.2f} to {diversity.after:.2f}"
    if finish and finish.high < -evidence.max_finish_rate_drop:
        return f"the finish rate fell from {100 * finish.before:.0f} % to {100 * finish.after:.0f} %"
    return None


def _reason(evidence: Evidence, verdict: Verdict) -> str | None:
    """Why the verdict is not what the judge's interval alone says."""
    reward, needed = evidence.reward, evidence.tasks_needed or 0
    match verdict:
        case Verdict.FLAT:
            return f"the difference is within ± {evidence.margin:g}"
        case Verdict.PROXY_ONLY if reward:
            return f"the reward rose by {evidence.with_interval(reward, digits=2)} but the judge did not follow"
        case Verdict.COLLAPSING:
            return _collapse(evidence)
        case Verdict.INCONCLUSIVE if evidence.tasks < evidence.min_tasks:
            least = max(evidence.min_tasks, needed)
            return f"fewer than {evidence.min_tasks} tasks (`evaluation.min_tasks`) are not enough; use at least {least:,}"
        case Verdict.INCONCLUSIVE:
            smallest = f"the smallest detectable difference is {evidence.smallest_detectable:.3f}"
            return f"{smallest}; detecting {evidence.margin:g} takes {needed:,} tasks"
    return None
