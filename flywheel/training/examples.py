"""What a generator is trained on: winners, and a share of proposals."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples(Sequence[Example]):
    """Texts in the order of training, each rendered on access: there may be more than fit in memory."""

    winners: Sequence[Winner]
    proposals: Proposals
    prompts: Prompts
    order: array[int]
    """Indices of winners; those from ``len(winners)`` on are of proposals."""

    def __len__(self) -> int:
        return len(self.order)

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> list[Example]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[position] for position in range(*place.indices(len(self)))]
        index = self.order[place]
        if index < len(self.winners):
            winner = self.winners[index]
            return Example(prompt=self.prompts.answer(winner.task), completion=self.prompts.output(winner.output))
        demos, task = self.proposals[index - len(self.winners)]
        return Example(prompt=self.prompts.propose(demos), completion=self.prompts.written(task))


def training_examples(
    winners: Sequence[Winner], proposals: Proposals, prompts: Prompts, *, proposal_share: float, names: tuple[object, ...]
) -> Examples:
    """Winners as answer-shaped texts, mixed with proposal-shaped ones to the given share.

    Proposals are drawn without repeats, so too large a share takes all of them.
    """
    rng = generator("training", *names)
    wanted = round(len(winners) * proposal_share / (1 - proposal_share)) if proposal_share < 1 else len(proposals)
    drawn = rng.sample(range(len(proposals)), min(wanted, len(proposals)))
    order = array("q", range(len(winners)) if proposal_share < 1 else ())
    order.extend(len(winners) + place for place in drawn)
    rng.shuffle(order)
    return Examples(winners=winners, proposals=proposals, prompts=prompts, order=order)
