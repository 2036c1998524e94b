"""Best-of-N: the winner of a task, and what the control policies would have picked. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flywheel.core.seeds import generator
from flywheel.records import FinishReason, Policy, Scored, Selection


def select(task_id: str, scored: Sequence[Scored], *names: object) -> list[Selection]:
    """Every policy's pick for one task; empty where all candidates were cut at the token limit.

    Ties of reward are broken by a draw that derives from ``names`` and the task: never by position, which
    would favour whatever an engine returns first.
    """
    finished = [one for one in scored if one.candidate.finish_reason == FinishReason.STOP]
    if not finished:
        return []
    rng = generator("select", *names, task_id)
    order = rng.sample(finished, len(finished))
    picks = {
        Policy.BEST: max(order, key=lambda one: one.reward),
        Policy.RANDOM: order[0],
        Policy.LONGEST: max(order, key=lambda one: one.candidate.tokens),
        Policy.FIRST: min(finished, key=lambda one: one.candidate.candidate),
    }
    known = [(one.candidate.logprob, place, one) for place, one in enumerate(order) if one.candidate.logprob is not None]
    if len(known) == len(order):
        picks[Policy.MAX_LOGPROB] = max(known)[2]
    return [
        Selection(task_id=task_id, policy=policy, candidate=pick.candidate.candidate, margin=_margin(pick, finished))
        for policy, pick in picks.items()
    ]


def select_all(scored: Mapping[str, Sequence[Scored]], *names: object) -> list[Selection]:
    """Every policy's picks for all tasks."""
    return [selection for task_id, candidates in scored.items() for selection in select(task_id, candidates, *names)]


def _margin(pick: Scored, finished: Sequence[Scored]) -> float | None:
    others = [one.reward for one in finished if one is not pick]
    return pick.reward - max(others) if others else None
