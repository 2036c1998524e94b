"""What a model wrote after the propose prompt, read as a task, and why it may be dropped."""

from __future__ import annotations

import re
from enum import StrEnum

from flywheel.records import FinishReason, Task

_LABEL = re.compile(r"^[ \t]*(instruction|input|constraints?)[ \t]*:[ \t]*", re.IGNORECASE | re.MULTILINE)
_NEXT_EXAMPLE = re.compile(r"^[ \t]*example[ \t]+\d+", re.IGNORECASE | re.MULTILINE)


class Dropped(StrEnum):
    """Why an attempt at a new task was dropped."""

    TRUNCATED = "truncated"
    """The token limit cut it."""
    MISSING_FIELD = "missing field"
    """It has no instruction, no input or no constraints."""
    COPIES_DEMO = "copies a demo"
    """Its instruction and input are those of a task shown in the prompt."""
    HELD_OUT = "held-out task"
    """Its instruction and input are those of a task that generators are evaluated on."""
    REPEATED = "repeated"
    """Its instruction and input were kept before, in this round or an earlier one."""


def parse_task(text: str) -> Task | None:
    """Read what follows ``Instruction:``; None where a field is missing or empty.

    The first value of a field counts, and whatever comes after a further example is not read.
    """
    following = _NEXT_EXAMPLE.search(text)
    if following:
        text = text[: following.start()]
    marks = list(_LABEL.finditer(text))
    starts = [mark.start() for mark in marks] + [len(text)]
    before = text[: starts[0]].strip()
    fields = {"instruction": before} if before else {}
    for mark, end in zip(marks, starts[1:], strict=True):
        name = mark.group(1).lower().rstrip("s")
        fields.setdefault("constraints" if name == "constraint" else name, text[mark.end() : end].strip())
    if not all(fields.get(name) for name in ("instruction", "input", "constraints")):
        return None
    return Task(instruction=fields["instruction"], input=fields["input"], constraints=fields["constraints"])


def drop_reason(
    task: Task | None,
    finish_reason: FinishReason,
    *,
    demos: set[tuple[str, str]],
    held_out: set[tuple[str, str]],
    known: set[tuple[str, str]],
) -> Dropped | None:
    """Why this attempt is dropped, None to keep it; the sets hold (instruction, input)."""
    if finish_reason == FinishReason.LENGTH:
        return Dropped.TRUNCATED
    if task is None:
        return Dropped.MISSING_FIELD
    key = (task.instruction, task.input)
    if key in demos:
        return Dropped.COPIES_DEMO
    if key in held_out:
        return Dropped.HELD_OUT
    return Dropped.REPEATED if key in known else None
