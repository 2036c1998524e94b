"""Conversations as a task and its output: message lists, and transcripts of "Human:" and "Assistant:" turns.

Whatever form preferences come in, a reward model reads them in the form in which it will score: the
answer prompt of the run, then the output.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from flywheel.records import Task
from flywheel.reward.text import Answer

SPEAKERS = {"user": "Human", "human": "Human", "assistant": "Assistant", "gpt": "Assistant", "system": "System"}
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")


def is_messages(value: Any) -> bool:
    """Whether a cell is a list of messages, each with a role and a content."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, dict) and isinstance(one.get("content", one.get("value")), str) for one in value)
    )


def is_transcript(text: str) -> bool:
    """Whether a text is a dialogue that begins with a human turn, as in hh-rlhf."""
    return bool(re.match(r"\s*Human: ", text)) and "\n\nAssistant:" in text


def turns_of(value: Any) -> list[tuple[str, str]]:
    """(speaker, words) of each turn of a message list or a transcript."""
    if isinstance(value, str):
        parts = _TURN.split(value.lstrip("\n"))
        return list(zip(parts[1::2], (words.strip() for words in parts[2::2]), strict=True))
    return [
        (
            SPEAKERS.get(str(one.get("role", one.get("from"))).lower(), "Human"),
            str(one.get("content", one.get("value"))).strip(),
        )
        for one in value
    ]


def as_task(turns: Sequence[tuple[str, str]]) -> Task:
    """What is asked by the turns before the reply: the one human turn itself, or the whole dialogue so far."""
    if len(turns) == 1:
        return Task(instruction=turns[0][1], input="None")
    return Task(instruction="\n\n".join(f"{speaker}: {words}" for speaker, words in turns), input="None")


def as_answer(turns: Sequence[tuple[str, str]]) -> Answer:
    """The last turn as the output for those before it."""
    return Answer(task=as_task(turns[:-1]), output=turns[-1][1])


def first_words(turns: Sequence[tuple[str, str]]) -> str:
    """The first human turn: dialogues that begin alike share a split, however they go on."""
    return next((words for speaker, words in turns if speaker == "Human"), turns[0][1]).lower()
