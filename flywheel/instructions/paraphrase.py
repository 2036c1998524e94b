"""Paraphrase: other wordings of the instructions of winners, input and output kept (Unnatural Instructions, section 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from flywheel.config import ParaphrasesConfig
from flywheel.core.seeds import derive, generator
from flywheel.engines.contract import Generate, Request, Sampling, prompt_tokens
from flywheel.instructions.filters import KEPT, Decision, Dropped, Filters, Key, key_of
from flywheel.instructions.parse import parse_alternative
from flywheel.instructions.prompts import Prompts
from flywheel.instructions.propose import proposal
from flywheel.instructions.similarity import words
from flywheel.instructions.tasks import REWORDED_DEMOS
from flywheel.records import Chunk, Completion, FinishReason, Origin, Proposal, Reworded, Task, Winner

STOP = ("\nExample ", "\nInstruction:", "\nInput:", "\n\n")
"""What follows an alternative."""
Rewards = Callable[[Sequence[tuple[Task, str]]], list[float]]
"""The rewards of finished outputs of tasks, in order."""


def paraphrase(
    write: Generate,
    prompts: Prompts,
    config: ParaphrasesConfig,
    winners: Sequence[Winner],
    *,
    demos: Sequence[Reworded],
    filters: Filters,
    reward: Rewards,
    names: tuple[object, ...],
    chunk: int,
    done: int,
) -> Iterator[Chunk[Proposal]]:
    """Generate ``config.per_winner`` alternatives for each winner, from chunk ``done`` on; the dropped ones with their reason.

    ``filters`` knows the tasks kept before. An alternative that asks for something else is recognised by the reward: the
    winning output would have a lower one as an answer to it.
    """
    sampling = Sampling(temperature=config.temperature, top_p=config.top_p, max_tokens=config.max_tokens, stop=STOP)
    starts = range(done * chunk, len(winners), chunk)

    def demos_for(winner: Winner) -> list[Reworded]:
        return generator("reworded", *names, winner.task.task_id).sample(demos, REWORDED_DEMOS)

    requests = (
        Request(
            prompts=[prompts.paraphrase(winner.task, demos_for(winner)) for winner in winners[start : start + chunk]],
            n=config.per_winner, sampling=sampling, seed=derive(*names, start // chunk),
        )
        for start in starts
    )  # fmt: skip
    for start, groups in zip(starts, write(requests), strict=True):
        asked = winners[start : start + chunk]
        seen: set[Key] = set()
        rows = [
            _decide(place * config.per_winner + number, completion, winner, demos_for(winner), filters, seen)
            for place, (winner, group) in enumerate(zip(asked, groups, strict=True), start=start)
            for number, completion in enumerate(group)
        ]
        if config.max_reward_fall is not None:
            rows = _drop_other_meanings(rows, asked, reward, config.max_reward_fall)
        for row in rows:
            if row.reason is None and row.task:
                filters.keep(row.task)
        tokens = sum(row.tokens for row in rows)
        yield Chunk(rows=rows, last=start + chunk >= len(winners), tokens=tokens, prompt_tokens=prompt_tokens(groups))


def _decide(
    attempt: int, completion: Completion, winner: Winner, demos: Sequence[Reworded], filters: Filters, seen: set[Key]
) -> Proposal:
    """One alternative; ``seen`` collects those of the chunk."""
    alternative = parse_alternative(completion.text)
    task = replace(winner.task, instruction=alternative) if alternative else None
    shown = {key_of(replace(winner.task, instruction=text)) for pair in demos for text in (pair.instruction, pair.alternative)}
    if task and completion.finish_reason == FinishReason.STOP and words(task.instruction) == words(winner.task.instruction):
        decision = Decision(reason=Dropped.UNCHANGED)
    else:
        # A paraphrase is like its parent: that is no reason to drop it.
        decision = filters.check(task, completion.text, ended=completion.finish_reason, demos=shown, near_duplicates=False)
    if task:
        if decision == KEPT and key_of(task) in seen:
            decision = Decision(reason=Dropped.EXACT_DUPLICATE)
        seen.add(key_of(task))
    return proposal(attempt, completion, task, decision, origin=Origin.PARAPHRASED, parent=winner.task.task_id)


def _drop_other_meanings(rows: Sequence[Proposal], winners: Sequence[Winner], reward: Rewards, most: float) -> list[Proposal]:
    """Drop those under which the winner's output has a reward that is lower by more than ``most``."""
    kept = [(row.task, row.parent) for row in rows if row.reason is None and row.task and row.parent]
    outputs = {winner.task.task_id: winner.output for winner in winners}
    before = dict(zip(outputs, reward([(winner.task, winner.output) for winner in winners]), strict=True))
    after = reward([(task, outputs[parent]) for task, parent in kept])
    falls = {task.task_id for (task, parent), value in zip(kept, after, strict=True) if before[parent] - value > most}
    return [
        replace(row, reason=Dropped.REWARD_FALLS) if row.reason is None and row.task and row.task.task_id in falls else row
        for row in rows
    ]
