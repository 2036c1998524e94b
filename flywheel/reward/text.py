"""What a reward model reads: a task's prompt, the output, and the end mark if the output ended.

Truncated and finished outputs must look different to it, so the end mark is part of the text and the
pad token is never the end token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from flywheel.instructions.text import Prompts
from flywheel.records import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An output to be scored."""

    task: Task
    output: str
    finished: bool = True
    """False for an output that the token limit cut."""


class Scorer(Protocol):
    """Gives each answer a score, in order; higher is better."""

    def score(self, answers: Sequence[Answer]) -> list[float]: ...


def answer_texts(prompts: Prompts, answers: Sequence[Answer], end: str) -> list[str]:
    """The text of each answer, the same in training and in scoring; ``end`` is the tokenizer's end mark."""
    return [f"{prompts.answer(answer.task)} {answer.output.strip()}{end if answer.finished else ''}" for answer in answers]


def token_ids(tokenizer: PreTrainedTokenizerBase, prompts: Prompts, answers: Sequence[Answer]) -> list[list[int]]:
    """The tokens of each answer."""
    return list(tokenizer(answer_texts(prompts, answers, str(tokenizer.eos_token))).input_ids)
