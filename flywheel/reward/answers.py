"""Answers from the cells of preference data: an output with its task.

A cell is a text, an object with its own task, a message list, or a transcript of "Human:" and "Assistant:" turns. Whatever
its form, a reward model reads it in the form in which it will score: the answer prompt of the run, then the output.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from flywheel.core.files import encodable
from flywheel.errors import DataError
from flywheel.instructions.tasks import LONGEST_FIELD
from flywheel.records import Task
from flywheel.reward.text import Answer

SPEAKERS = {"user": "Human", "human": "Human", "assistant": "Assistant", "gpt": "Assistant", "system": "System"}
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
Turns = list[tuple[str, str]]
"""The speaker and the text of each turn."""


class Dropped(Exception):
    """A row that cannot be used; the text is the reason it is counted under."""


def read_answer(cell: Any, instruction: Any, *, fields: Mapping[str, str], whole: bool) -> tuple[Answer, str]:
    """An output with what was asked, and the prompt that decides its split; raises Dropped for a cell without an output.

    ``fields`` are the input and constraints beside the instruction; ``whole`` says that the source has no instructions.
    """
    if isinstance(cell, dict):
        return _own_task(cell)
    if _is_messages(cell):
        before = _turns(instruction) if _is_messages(instruction) else []
        before += [("Human", instruction)] if isinstance(instruction, str) else []
        return _last_turn([*before, *_turns(cell)])
    if cell is None:
        raise Dropped("empty")
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        raise Dropped("not a text")
    output = str(cell)
    if not output.strip():
        raise Dropped("empty")
    if _is_messages(instruction):
        turns = _turns(instruction)
        return Answer(task=_task(turns), output=output), _first_words(turns)
    if whole:
        is_transcript = re.match(r"\s*Human: ", output) and "\n\nAssistant:" in output
        return _last_turn(_turns(output)) if is_transcript else (Answer(task=None, output=output), "")
    if not isinstance(instruction, str) or not instruction.strip():
        raise Dropped("empty")
    return _with_prompt(Task(instruction=instruction, **fields), output)


def is_text(answer: Answer) -> bool:
    """Whether every part is valid Unicode of a length that a model can read."""
    task = answer.task
    parts = (answer.output, *((task.instruction, task.input, task.constraints) if task else ()))
    return all(len(part) <= LONGEST_FIELD and encodable(part) for part in parts)


def refuse_unreadable(answers: Sequence[Answer]) -> None:
    """Raise DataError for the first answer that no model can read."""
    for number, answer in enumerate(answers, start=1):
        if not is_text(answer):
            message = f"text {number} or its prompt is not valid Unicode, or has over {LONGEST_FIELD:,} characters"
            raise DataError(message, f"Fix or shorten text {number} or its prompt.")


def _own_task(cell: Mapping[str, Any]) -> tuple[Answer, str]:
    instruction, output = cell.get("instruction"), cell.get("output")
    if not (isinstance(instruction, str) and instruction.strip() and isinstance(output, str) and output.strip()):
        raise Dropped("empty")
    fields = {name: str(cell.get(name) or "None") for name in ("input", "constraints")}
    return _with_prompt(Task(instruction=instruction, **fields), output)


def _with_prompt(task: Task, output: str) -> tuple[Answer, str]:
    return Answer(task=task, output=output), f"{task.instruction}\x1f{task.input}"


def _is_messages(value: Any) -> bool:
    """Whether a cell is a list of messages, each with a role and a content."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and isinstance(turn.get("content", turn.get("value")), str) for turn in value)
    )


def _turns(value: Any) -> Turns:
    """The turns of a message list or a transcript."""
    if isinstance(value, str):
        _, *parts = _TURN.split(value.lstrip("\n"))
        return list(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))
    return [
        (SPEAKERS.get(str(turn.get("role", turn.get("from"))).lower(), "Human"), turn.get("content", turn.get("value")).strip())
        for turn in value
    ]


def _last_turn(turns: Turns) -> tuple[Answer, str]:
    """The last turn as the output for those before it."""
    if len(turns) < 2 or turns[-1][0] != "Assistant":
        raise Dropped("no reply")
    if not turns[-1][1]:
        raise Dropped("empty")
    return Answer(task=_task(turns[:-1]), output=turns[-1][1]), _first_words(turns)


def _task(turns: Turns) -> Task:
    """The turns before the reply as a task: the only human turn, or the whole dialogue so far."""
    if len(turns) == 1:
        return Task(instruction=turns[0][1], input="None")
    return Task(instruction="\n\n".join(f"{speaker}: {text}" for speaker, text in turns), input="None")


def _first_words(turns: Turns) -> str:
    """The first human turn: dialogues that start alike share a split, however they continue."""
    return next((text for speaker, text in turns if speaker == "Human"), turns[0][1]).lower()
