"""The judge of the nano world: a program that knows the right answer, and never selects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flywheel.nano.world import CONSTRAINTS, FAMILY_OF
from flywheel.records import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Whether one output has the right answer, and the form that was asked for."""

    answer: bool
    form: bool


def check(task: Task, output: str) -> Check | None:
    """Check an output against the world; None for a task that is not of this world.

    The answer counts as right in any known form, so that content and form are judged apart.
    """
    family, asked = FAMILY_OF.get(task.instruction), CONSTRAINTS.get(task.constraints)
    answer = family.answer(task.input) if family else None
    if answer is None or asked is None:
        return None
    text = output.strip()
    bare = next((name for name, form in CONSTRAINTS.items() if name != "None" and _inside(form, text) is not None), "None")
    content = _inside(CONSTRAINTS[bare], text)
    return Check(answer=content == answer, form=bare == task.constraints)


def _inside(form: Callable[[str], str], text: str) -> str | None:
    """The answer inside a form, or None if the text does not have that form."""
    before, after = form("\0").split("\0")
    inside = text.removeprefix(before).removesuffix(after)
    return inside if form(inside) == text else None


def judge(rows: Sequence[tuple[Task, str]]) -> list[float | None]:
    """1.0 for a right answer in the right form, 0.0 for anything else, None for a task that is not of this world."""
    verdicts = (check(task, output) for task, output in rows)
    return [None if verdict is None else float(verdict.answer and verdict.form) for verdict in verdicts]
