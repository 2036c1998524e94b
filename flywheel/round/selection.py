"""Best-of-N: the winner of a task, and what the other selection policies would keep. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flywheel.core.seeds import generator
from flywheel.records import FinishReason, Policy, Scored, Selection


def select(task_id: str, scored: Sequence[Scored], *names: object) -> list[Selection]:
    """Every policy's candidate for one task; empty where all candidates were cut at the token limit.

    A draw that derives from ``names`` and the task breaks ties of reward. Position never does: it would favour whatever an
    engine returns first.
    """
    finished = [candidate for candidate in scored if candidate.candidate.finish_reason == FinishReason.STOP]
    if not finished:
        return []
    rng = generator("select", *names, task_id)
    shuffled = rng.sample(finished, len(finished))
    selected = {
        Policy.BEST: max(shuffled, key=lambda scored: scored.reward),
        Policy.RANDOM: shuffled[0],
        Policy.LONGEST: max(shuffled, key=lambda scored: scored.candidate.tokens),
        Policy.FIRST: min(finished, key=lambda scored: scored.candidate.candidate),
    }
    logprobs = [
        (scored.candidate.logprob, place) for place, scored in enumerate(shuffled) if scored.candidate.logprob is not None
    ]
    if len(logprobs) == len(shuffled):
        selected[Policy.MAX_LOGPROB] = shuffled[max(logprobs)[1]]
    return [
        Selection(task_id=task_id, policy=policy, candidate=chosen.candidate.candidate, margin=_margin(chosen, finished))
        for policy, chosen in selected.items()
    ]


def select_all(scored: Mapping[str, Sequence[Scored]], *names: object) -> list[Selection]:
    """Every policy's candidates for all tasks."""
    return [selection for task_id, candidates in scored.items() for selection in select(task_id, candidates, *names)]


def _margin(chosen: Scored, finished: Sequence[Scored]) -> float | None:
    others = [scored.reward for scored in finished if scored is not chosen]
    return chosen.reward - max(others) if others else None
