"""`flywheel compare` and `flywheel trend` as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from flywheel.report.tables import print_line, print_rows

if TYPE_CHECKING:
    from flywheel.core.statistics import Estimate
    from flywheel.evaluation.best_of_n import Curve, PolicyFigures
    from flywheel.evaluation.trend import Step, Trend
    from flywheel.evaluation.verdict import Comparison, Difference, Evidence


def print_comparison(comparison: Comparison, policies: Sequence[PolicyFigures], curve: Curve | None) -> None:
    """The verdict, what speaks against it, the evidence, the selection policies and the best-of-N curve."""
    evidence = comparison.evidence
    print_line(comparison.sentence)
    for caveat in comparison.caveats:
        print_line(f"caveat: {caveat}")
    rates, net = evidence.rates, evidence.rates.net
    print_line(
        f"win / tie / loss on the judge: {100 * rates.win:.1f} % / {100 * rates.tie:.1f} % / {100 * rates.loss:.1f} %; "
        f"win − loss {100 * net.value:+.1f} ({100 * net.low:+.1f} to {100 * net.high:+.1f}) points"
    )
    print_line(
        f"paired t-test over {evidence.tasks:,} tasks: p = {evidence.p_value:.2g}; smallest detectable difference: "
        f"{evidence.smallest_detectable:.3f} (80 % power)"
    )
    print_line()
    interval = f"{100 * evidence.confidence:.3g} % CI"
    print_rows(("held-out", evidence.base, evidence.round, "Δ", interval), list(_evidence_rows(evidence)))
    if policies:
        print_line()
        differences = [row.difference for row in policies]
        rows = [
            (row.policy, row.judge, moved and _signed(moved.value), moved and _interval(moved), row.reward, row.tokens)
            for row, moved in zip(policies, differences, strict=True)
        ]
        columns = ("policy", "judge", "Δ vs. best-of-N", interval, "reward", "tokens")
        print_rows(columns, rows, title=f"selection policies, {policies[0].tasks:,} judged tasks")
    if curve is not None:
        print_line()
        points = [
            (point.n, point.judge.value, _interval(point.judge, sign=""), point.reward.value, _interval(point.reward, sign=""))
            for point in curve.points
            if point.n & (point.n - 1) == 0 or point is curve.points[-1]  # powers of two and the last
        ]
        print_rows(("N", "judge", interval, "reward", interval), points, title=f"best-of-N, {curve.tasks:,} judged tasks")
        if curve.over_optimized_after is not None:
            print_line(f"over-optimization after N = {curve.over_optimized_after}: the reward still rises and the judge falls")


def _evidence_rows(evidence: Evidence) -> Iterator[tuple[Any, ...]]:
    figures: dict[str, Difference | Estimate | None] = {
        "judge": evidence.judge,
        "judge, length-controlled": evidence.length_controlled,
        "reward": evidence.reward,
        **{f"judge {name}": other for name, other in evidence.others.items()},
        "output diversity": evidence.diversity,
        "finish rate": evidence.finish_rate,
        "tokens": evidence.tokens,
    }
    for name, figure in figures.items():
        if figure is not None:
            before, after = getattr(figure, "before", None), getattr(figure, "after", None)
            yield name, before, after, _signed(figure.value), _interval(figure)


def print_trend(trend: Trend) -> None:
    """The verdict of every round against its parent, the first round and its control."""
    if not trend.rounds:
        print_line("No round is finished yet. Run `flywheel round`.")
        return
    print_line(f"rounds: {', '.join(trend.rounds)}" + (f"; best by the judge: {trend.best}" if trend.best else ""))
    chains = {
        "against its parent": trend.against_parent,
        "against r0": trend.against_first,
        "against its control": trend.against_control,
    }
    for title, steps in chains.items():
        if steps:
            print_line()
            columns = (title, "verdict", "judge before", "after", "Δ judge", "CI", "p", "Δ reward")
            print_rows(columns, [_step_row(step) for step in steps])
    for step in (*trend.against_parent, *trend.against_first):
        for caveat in step.comparison.caveats:
            print_line(f"{step.round} against {step.base}: {caveat}")
    for reason in trend.skipped:
        print_line(reason)
    if any(len(steps) > 1 for steps in chains.values()):
        print_line(
            "Intervals and p are corrected for the number of comparisons in each table (Holm): the intervals are wider than "
            "those of `flywheel compare`, which compares one pair."
        )


def _step_row(step: Step) -> tuple[Any, ...]:
    judge, reward = step.comparison.evidence.judge, step.comparison.evidence.reward
    pair, verdict, p_value = f"{step.round} vs. {step.base}", str(step.comparison.verdict), f"{step.adjusted_p:.2g}"
    moved = (_signed(judge.value), _interval(judge), p_value, reward and _signed(reward.value))
    return (pair, verdict, judge.before, judge.after, *moved)


def _interval(estimate: Estimate | Difference, *, sign: str = "+") -> str:
    return f"{estimate.low:{sign}.3f} to {estimate.high:{sign}.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}"
