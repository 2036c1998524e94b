"""What a generator is trained on: winners, and a share of proposals."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flywheel.core.seeds import generator
from flywheel.instructions.prompts import Prompts
from flywheel.records import Task, Winner

Proposals = Sequence[tuple[Sequence[Task], Task]]
"""Kept tasks, each with the demos it was proposed from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A text to train on; the loss is on the completion only."""

    prompt: str
    completion: str


def training_examples(
    winners: Sequence[Winner], proposals: Proposals, prompts: Prompts, *, proposal_share: float, names: tuple[object, ...]
) -> Iterator[Example]:
    """Winners as answer-shaped texts, mixed with proposal-shaped ones to the given share, in the order of training.

    Each is rendered when it is taken: there may be more than fit in memory. Proposals are drawn without repeats, so too
    large a share takes all of them.
    """
    rng = generator("training", *names)
    wanted = round(len(winners) * proposal_share / (1 - proposal_share)) if proposal_share < 1 else len(proposals)
    drawn = rng.sample(range(len(proposals)), min(wanted, len(proposals)))
    order = array("q", range(len(winners)) if proposal_share < 1 else ())
    order.extend(len(winners) + place for place in drawn)
    rng.shuffle(order)
    for index in order:
        if index < len(winners):
            winner = winners[index]
            yield Example(prompt=prompts.answer(winner.task), completion=prompts.output(winner.output))
        else:
            demos, task = proposals[index - len(winners)]
            yield Example(prompt=prompts.propose(demos), completion=prompts.written(task))
