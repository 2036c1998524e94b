"""Paraphrase: other ways to say the instructions of winners, input and output kept (Unnatural Instructions, section 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from flywheel.config import ParaphrasesConfig
from flywheel.core.seeds import derive, generator
from flywheel.engines.contract import Generate, Request, Sampling, prompt_tokens
from flywheel.instructions.filters import KEPT, Decision, Dropped, Filters, Key, key_of
from flywheel.instructions.kinds import kind_of
from flywheel.instructions.parse import parse_alternative
from flywheel.instructions.prompts import Prompts
from flywheel.instructions.similarity import words
from flywheel.instructions.tasks import REWORDED_DEMOS
from flywheel.records import Chunk, Completion, FinishReason, Origin, Proposal, Reworded, Task, Winner

STOP = ("\nExample ", "\nInstruction:", "\nInput:", "\n\n")
"""What comes after an alternative."""
Rewards = Callable[[Sequence[tuple[Task, str]]], list[float]]
"""What the reward model gives finished outputs of tasks, in order."""


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
    """Write ``config.per_winner`` alternatives for each winner, from chunk ``done`` on; the dropped ones with their reason.

    ``filters`` knows the tasks kept before. One that asks for something else is recognised by its reward: the
    output that won would be worth less as an answer to it.
    """
    sampling = Sampling(temperature=config.temperature, top_p=config.top_p, max_tokens=config.max_tokens, stop=STOP)
    starts = range(0, len(winners), chunk)

    def shown_to(one: Winner) -> list[Reworded]:
        return generator("reworded", *names, one.task.task_id).sample(demos, REWORDED_DEMOS)

    def ask(index: int) -> Request:
        asked = winners[starts[index] : starts[index] + chunk]
        return Request(
            prompts=[prompts.paraphrase(one.task, shown_to(one)) for one in asked],
            n=config.per_winner, sampling=sampling, seed=derive(*names, index),
        )  # fmt: skip

    places = range(done, len(starts))
    for index, written in zip(places, write(ask(index) for index in places), strict=True):
        asked = winners[starts[index] : starts[index] + chunk]
        rows: list[Proposal] = []
        seen: set[Key] = set()
        for place, (winner, group) in enumerate(zip(asked, written, strict=True)):
            attempt = (starts[index] + place) * config.per_winner
            rows += [_read(attempt + number, one, winner, shown_to(winner), filters, seen) for number, one in enumerate(group)]
        if config.max_reward_fall is not None:
            rows = _drop_other_meanings(rows, asked, reward, config.max_reward_fall)
        for row in rows:
            if row.reason is None and row.task:
                filters.keep(row.task)
        yield Chunk(
            rows=rows,
            last=index == len(starts) - 1,
            tokens=sum(row.tokens for row in rows),
            prompt_tokens=prompt_tokens(written),
        )


def _read(
    attempt: int, completion: Completion, winner: Winner, demos: Sequence[Reworded], filters: Filters, seen: set[Key]
) -> Proposal:
    """An alternative and what is decided about it; ``seen`` collects those of the chunk."""
    alternative = parse_alternative(completion.text)
    task = replace(winner.task, instruction=alternative) if alternative else None
    shown = {key_of(replace(winner.task, instruction=text)) for pair in demos for text in (pair.instruction, pair.alternative)}
    if task and completion.finish_reason == FinishReason.STOP and words(task.instruction) == words(winner.task.instruction):
        decision = Decision(reason=Dropped.UNCHANGED)
    else:
        # A paraphrase is like its parent: that is no reason to drop it.
        decision = filters.check(task, completion.text, ended=completion.finish_reason, demos=shown, near_duplicates=False)
    if decision == KEPT and task and key_of(task) in seen:
        decision = Decision(reason=Dropped.REPEATED)
    if task:
        seen.add(key_of(task))
    return Proposal(
        attempt=attempt,
        raw=completion.text,
        demos=(),
        tokens=completion.tokens,
        task=task,
        reason=decision.reason,
        kind=kind_of(task.instruction) if task else None,
        nearest=decision.nearest,
        similarity=decision.similarity,
        origin=Origin.PARAPHRASED,
        parent=winner.task.task_id,
    )


def _drop_other_meanings(rows: Sequence[Proposal], winners: Sequence[Winner], reward: Rewards, most: float) -> list[Proposal]:
    """Drop those under which the winner's output is worth less by more than ``most``."""
    kept = [(row.task, row.parent) for row in rows if row.reason is None and row.task and row.parent]
    outputs = {winner.task.task_id: winner.output for winner in winners}
    before = dict(zip(outputs, reward([(winner.task, winner.output) for winner in winners]), strict=True))
    after = reward([(task, outputs[parent]) for task, parent in kept])
    falls = {task.task_id for (task, parent), value in zip(kept, after, strict=True) if before[parent] - value > most}
    return [
        replace(row, reason=Dropped.REWARD_FALLS) if row.reason is None and row.task and row.task.task_id in falls else row
        for row in rows
    ]
