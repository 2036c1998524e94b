"""What a reward model reads: a task's prompt, the output, and the end mark if the output ended.

Truncated and finished outputs must look different to it, so the end mark is part of the text and the
pad token is never the end token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from flywheel.instructions.prompts import Prompts
from flywheel.records import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An output to be scored."""

    task: Task | None
    """None where the output is a whole text, prompt and all."""
    output: str
    finished: bool = True
    """False for an output that the token limit cut."""


class Scorer(Protocol):
    """Gives each answer a score, in order; higher is better."""

    def score_answers(self, answers: Sequence[Answer]) -> list[float]: ...


def answer_texts(prompts: Prompts, answers: Sequence[Answer], end: str) -> list[str]:
    """The text of each answer, the same in training and in scoring; ``end`` is the tokenizer's end mark."""
    return [
        (answer.output if answer.task is None else f"{prompts.answer(answer.task)} {answer.output.strip()}")
        + (end if answer.finished else "")
        for answer in answers
    ]


def shared_beginning(sequences: Sequence[Sequence[Any]]) -> int:
    """How many items or characters all sequences begin with in common."""
    places = enumerate(zip(*sequences, strict=False))
    return next((place for place, items in places if len(set(items)) > 1), min(map(len, sequences)))


def end_mark(tokenizer: PreTrainedTokenizerBase) -> str:
    """What ends a text: the end token, or for encoders without one the separator."""
    return str(tokenizer.eos_token or tokenizer.sep_token or "")


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, max_length: int) -> list[list[int]]:
    """The tokens of each text. Texts over the maximum length lose their beginning, but not a mark before it."""
    return [_cut(tokenizer, ids, max_length) for ids in tokenizer(list(texts)).input_ids]


def _cut(tokenizer: PreTrainedTokenizerBase, ids: list[int], max_length: int) -> list[int]:
    if len(ids) <= max_length:
        return ids
    mark = ids[:1] if ids[0] in (tokenizer.cls_token_id, tokenizer.bos_token_id) else []
    return [*mark, *ids[len(ids) - max_length + len(mark) :]]
