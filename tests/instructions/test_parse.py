"""Reading tasks out of what models write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.instructions.parse import Dropped, drop_reason, parse_task
from flywheel.instructions.text import format_task
from flywheel.records import FinishReason, Task

TASK = Task(instruction="Sort the words.", input="b, a", constraints="None")
FIELD = st.text(st.characters(categories=("L", "N", "P", "Zs")), min_size=1, max_size=40).filter(
    lambda text: text.strip() == text and ":" not in text and not text.lower().startswith("example")
)


@given(instruction=FIELD, text=FIELD, constraints=FIELD)
def test_what_is_written_as_a_task_is_read_as_the_same_task(instruction: str, text: str, constraints: str) -> None:
    task = Task(instruction=instruction, input=text, constraints=constraints)
    assert parse_task(f" {format_task(task)}\n\nExample 5\nInstruction: another") == task


@given(st.text(max_size=300))
def test_any_text_is_read_without_an_error(text: str) -> None:
    parse_task(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Sort the words.\nInput: b, a\nConstraints: None", TASK),
        ("Instruction: Sort the words.\nInput: b, a\nConstraints: None", TASK),
        (" Sort the words.\nConstraints: None\nInput: b, a", TASK),
        (" Sort the words.\n  input :  b, a\nCONSTRAINT: None", TASK),
        (" Sort the words.\nInput: b, a\nConstraints: None\nInput: c", TASK),
        (" Sort the words.\nInput: b, a", None),
        (" Sort the words.\nInput:\nConstraints: None", None),
        ("\nInput: b, a\nConstraints: None", None),
        ("", None),
    ],
)
def test_forms_that_models_write(text: str, expected: Task | None) -> None:
    assert parse_task(text) == expected


def reason(**known: set[tuple[str, str]]) -> Dropped | None:
    sets = {"demos": set(), "held_out": set(), "known": set()} | known
    return drop_reason(TASK, FinishReason.STOP, **sets)


def test_every_drop_has_its_reason() -> None:
    key = {(TASK.instruction, TASK.input)}
    assert reason() is None
    assert reason(demos=key) == Dropped.COPIES_DEMO
    assert reason(held_out=key) == Dropped.HELD_OUT
    assert reason(known=key) == Dropped.REPEATED
    nothing: set[tuple[str, str]] = set()
    assert drop_reason(None, FinishReason.STOP, demos=nothing, held_out=nothing, known=nothing) == Dropped.MISSING_FIELD
    assert drop_reason(TASK, FinishReason.LENGTH, demos=nothing, held_out=nothing, known=nothing) == Dropped.TRUNCATED
