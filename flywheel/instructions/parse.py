"""Reads what a model generated as a task, or as another wording of an instruction.

A model that is shown three examples generates a fourth, and often more: markdown, fields in another order, a
fifth example, the answer. Everything that is a task is read as one; a missing field stays missing.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from flywheel.records import Task

_MARKS = r"(?:\*{1,3}|_{1,3}|`)"
_LABEL = re.compile(
    rf"""
    [ \t]* (?:>[ \t]*)* (?:(?:[-*+•]|\d+[.)])[ \t]+)?                    # a quote, a list
    (?P<heading>\#{{1,6}}[ \t]+)?
    (?P<open>{_MARKS})?
    (?P<name> instruction | input | (?:output[ ])?constraints? | output | answer | response | solution )
    (?P<close>{_MARKS})?
    [ \t]* (?: [:：] (?P<after>{_MARKS}(?![^\s]))? | (?(heading)(?=[ \t]*$)|(?!)) )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_EXAMPLE = re.compile(r"[ \t>#*_`-]*example[ \t]+\d+[ \t]*(?:[:.)*_`].*)?", re.IGNORECASE)
_RULE_BELOW = re.compile(r"\n\s*(?:-{3,}|\*{3,}|_{3,})\s*$")
_FENCE = re.compile(r"[ \t]*```")
_WRAPPED = re.compile(r"(?P<mark>\*{1,3}|__|`)(?P<inner>.+)(?P=mark)", re.DOTALL)
_NO_CONSTRAINTS = re.compile(
    r"(?:none|nil|n/?a|-+|无|no(?: (?:specific|special|additional|particular|further|other|output))* constraints?)[.。]?",
    re.IGNORECASE,
)
_NO_INPUT = re.compile(r"(?:none|nil|n/?a|no input(?: (?:is )?(?:needed|required|necessary))?)[.]?", re.IGNORECASE)
FIELDS = ("instruction", "input", "constraint")
_UNSEEN = "\ufeff\u200b\u200c\u200d\u2060"


class Parsed(NamedTuple):
    """A task, and whether it is complete."""

    task: Task | None
    """None where the instruction, the input or the constraints are missing or empty."""
    ended: bool
    """Whether the task is complete, though the text may be cut further on."""


def parse_task(text: str, *, chat: bool = False) -> Parsed:
    """Read the fourth example.

    A completion continues after ``Instruction:``; a chat message has that label itself, and text before it is not
    part of the task. Labels start a line, in any case, order and markdown; of two values of a field the first
    counts. A further example, a second instruction or an output ends the task.
    """
    fields: dict[str, list[str]] = {} if chat else {"instruction": []}
    unclosed: dict[str, str] = {}
    current = None if chat else fields["instruction"]
    ended = False
    for line in _lines(text, chat=chat):
        label = _LABEL.match(line)
        name = label["name"].lower().split()[-1].rstrip("s") if label else None
        has_instruction = any(map(str.strip, fields.get("instruction", ())))
        if _EXAMPLE.fullmatch(line):
            if ended := has_instruction:
                break
        elif label is None or name is None:
            if current is not None:
                current.append(line)
        elif ended := name not in FIELDS or (name == "instruction" and has_instruction):
            break
        elif name in fields and name != "instruction":
            current = None
        else:
            if label["open"] and not (label["close"] or label["after"]):
                unclosed[name] = label["open"]
            current = fields[name] = [line[label.end() :]]
    values = {name: _value(lines, unclosed.get(name)) for name, lines in fields.items()}
    if not all(map(values.get, FIELDS)):
        return Parsed(None, ended)
    instruction, text, constraints = map(values.__getitem__, FIELDS)
    task = Task(
        instruction=instruction,
        input="None" if _NO_INPUT.fullmatch(text) else text,
        constraints="None" if _NO_CONSTRAINTS.fullmatch(constraints) else constraints,
    )
    return Parsed(task, ended)


def parse_alternative(text: str) -> str | None:
    """Read another wording of an instruction: the first paragraph, without label, quotes or markdown around it.

    It ends where a further field or example starts.
    """
    paragraph: list[str] = []
    for line in _lines(text, chat=False):
        label = _LABEL.match(line)
        if _EXAMPLE.fullmatch(line) or (paragraph and (label or not line.strip())):
            break
        line = line[label.end() :] if label else line
        if line.strip():
            paragraph.append(line)
    value = re.sub(r"^(?:\W*alternative(?: formulation)?\W*[:：]\W*)", "", _value(paragraph, None), flags=re.IGNORECASE)
    quoted = re.fullmatch(r"[\"“'‘](?P<inner>[^\"“”]+)[\"”'’]", value)
    return (quoted["inner"] if quoted else value).strip() or None


def _lines(text: str, *, chat: bool) -> list[str]:
    """The lines of a text, without a code fence around all of it, or around all that follows a preamble."""
    lines = text.lstrip(_UNSEEN).replace("\r\n", "\n").split("\n")
    fences = [place for place, line in enumerate(lines) if _FENCE.match(line)]
    first = next((place for place, line in enumerate(lines) if _LABEL.match(line)), 0)
    opened = [place for place in fences if place < first]
    if len(opened) % 2 == 0 or not (chat or not any(line.strip() for line in lines[: opened[-1]])):
        return lines
    inside = lines[opened[-1] + 1 :]
    closing = [place for place, line in enumerate(inside) if _FENCE.match(line)]
    # Fences inside come in pairs, so the one around them is left over.
    return inside[: closing[-1]] if len(closing) % 2 else inside


def _value(lines: list[str], unclosed: str | None) -> str:
    """The text of a field, without a rule below it and without emphasis that is around all of it."""
    value = _RULE_BELOW.sub("", "\n".join(lines).strip())
    if unclosed:
        value = value.removesuffix(unclosed).rstrip()
    wrapped = _WRAPPED.fullmatch(value)
    if wrapped and wrapped["mark"] not in wrapped["inner"]:
        value = wrapped["inner"].strip()
    return value
