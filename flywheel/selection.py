"""Best-of-N: the winner of a task, and what the control arms would have picked. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flywheel.records import Arm, FinishReason, Scored, Selection
from flywheel.seeds import generator


def select(task_id: str, scored: Sequence[Scored], *names: object) -> list[Selection]:
    """Every arm's pick for one task; empty where all candidates were cut at the token limit.

    Ties of reward are broken by a draw that derives from ``names`` and the task: never by position, which
    would favour whatever an engine returns first.
    """
    finished = [one for one in scored if one.candidate.finish_reason == FinishReason.STOP]
    if not finished:
        return []
    rng = generator("select", *names, task_id)
    order = rng.sample(finished, len(finished))
    picks = {
        Arm.BEST: max(order, key=lambda one: one.reward),
        Arm.RANDOM: order[0],
        Arm.LONGEST: max(order, key=lambda one: one.candidate.tokens),
        Arm.FIRST: min(finished, key=lambda one: one.candidate.candidate),
    }
    known = [(one.candidate.logprob, place, one) for place, one in enumerate(order) if one.candidate.logprob is not None]
    if len(known) == len(order):
        picks[Arm.LIKELIEST] = max(known)[2]
    return [
        Selection(task_id=task_id, arm=arm, candidate=pick.candidate.candidate, margin=_margin(pick, finished))
        for arm, pick in picks.items()
    ]


def select_all(scored: Mapping[str, Sequence[Scored]], *names: object) -> list[Selection]:
    """Every arm's picks for all tasks."""
    return [selection for task_id, candidates in scored.items() for selection in select(task_id, candidates, *names)]


def _margin(pick: Scored, finished: Sequence[Scored]) -> float | None:
    others = [one.reward for one in finished if one is not pick]
    return pick.reward - max(others) if others else None
