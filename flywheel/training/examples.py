"""What is trained on: winners, and a share of proposals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flywheel.instructions.text import Prompts
from flywheel.records import Task, Winner
from flywheel.seeds import generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A text to train on; the loss is on the completion only."""

    prompt: str
    completion: str


def training_examples(
    winners: Sequence[Winner],
    proposals: Sequence[tuple[Sequence[Task], Task]],
    prompts: Prompts,
    *,
    proposal_share: float,
    names: tuple[object, ...],
) -> list[Example]:
    """Winners as answer-shaped texts, mixed with proposal-shaped ones to the given share.

    ``proposals`` are kept tasks with the demos they were proposed from; as many as the share asks for are
    drawn from them, without repeats, so that a share too large for them is met as far as they go.
    """
    answers = [Example(prompt=prompts.answer(winner.task), completion=prompts.output(winner.output)) for winner in winners]
    rng = generator("training", *names)
    wanted = round(len(answers) * proposal_share / (1 - proposal_share)) if proposal_share < 1 else len(proposals)
    drawn = rng.sample(list(proposals), min(wanted, len(proposals)))
    proposed = [Example(prompt=prompts.propose(demos), completion=prompts.written(task)) for demos, task in drawn]
    examples = answers + proposed if proposal_share < 1 else proposed
    rng.shuffle(examples)
    return examples
