"""Reading tasks out of what models write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.instructions.parse import parse_alternative, parse_task
from flywheel.instructions.prompts import format_task
from flywheel.records import Task

RECORDED = [json.loads(line) for line in (Path(__file__).parent / "recorded.jsonl").read_text().splitlines()]
TASK = Task(instruction="Sort the words.", input="b, a", constraints="None")
NOTHING = {"none", "nil", "n/a", "na", "无"}
FIELD = st.text(st.characters(categories=("L", "N", "P", "Zs")), min_size=1, max_size=40).filter(
    lambda text: text.strip() == text and any(letter.isalnum() for letter in text) and not set(text) & set("*_`#>:：")
    and text.lower().rstrip(".。") not in NOTHING and not text.lower().startswith(("example", "no "))
)  # fmt: skip
"""Values without markdown, labels and ways to say *nothing*, which are read for what they mean."""


@given(instruction=FIELD, text=FIELD, constraints=FIELD)
def test_what_is_written_as_a_task_is_read_as_the_same_task(instruction: str, text: str, constraints: str) -> None:
    task = Task(instruction=instruction, input=text, constraints=constraints)
    assert parse_task(f" {format_task(task)}\n\nExample 5\nInstruction: another") == (task, True)


MARKDOWN = st.sampled_from(["{}:", "**{}:**", "**{}**:", "### {}", "- {}:", "> {}:", "`{}`:", "{} :", "{}：", "  {}:"])


@given(
    fields=st.permutations(["Instruction", "Input", "Constraints"]), marks=MARKDOWN,
    instruction=FIELD, text=FIELD, constraints=FIELD, upper=st.booleans(),
)  # fmt: skip
def test_fields_are_read_in_any_order_case_and_markdown(
    fields: list[str], marks: str, instruction: str, text: str, constraints: str, upper: bool
) -> None:
    values = {"Instruction": instruction, "Input": text, "Constraints": constraints}
    lines = [f"{marks.format(name.upper() if upper else name)}\n{values[name]}" for name in fields]
    assert parse_task("\n\n".join(lines), chat=True).task == Task(instruction=instruction, input=text, constraints=constraints)


@given(instruction=FIELD, text=FIELD, constraints=FIELD, cut=st.integers(0, 200))
def test_a_text_cut_anywhere_is_no_task_or_one_that_was_begun(instruction: str, text: str, constraints: str, cut: int) -> None:
    whole = format_task(Task(instruction=instruction, input=text, constraints=constraints))
    read = parse_task(whole[:cut]).task
    if read is not None:
        assert (read.instruction, read.input) == (instruction, text)
        assert constraints.startswith(read.constraints) or read.constraints == "None"


@given(st.text(max_size=300), st.booleans())
def test_any_text_is_read_without_an_error(text: str, chat: bool) -> None:
    parse_task(text, chat=chat)
    parse_alternative(text)


@pytest.mark.parametrize("row", RECORDED, ids=lambda row: row["note"])
def test_what_models_write_is_read_for_what_it_is(row: dict[str, Any]) -> None:
    expected = Task(**row["expected"]) if row["expected"] else None
    assert parse_task(row["text"], chat=row["style"] == "chat").task == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Which word comes first?", "Which word comes first?"),
        ("\n\nPut them in order.\n\nExample 4\nInstruction: x", "Put them in order."),
        (' "Name the animal."', "Name the animal."),
        ("**Alternative:** Say it shorter.", "Say it shorter."),
        ("Instruction: Say it shorter.", "Say it shorter."),
        (" Find the animal.\nInput: hoe, bear\nConstraints: None", "Find the animal."),
        (" Two lines\nof one paragraph.\n\nA remark.", "Two lines\nof one paragraph."),
        (" Say “yes” or “no”.", "Say “yes” or “no”."),
        ("", None),
        (" \n ", None),
    ],
)
def test_another_way_to_say_it_is_the_first_paragraph(text: str, expected: str | None) -> None:
    assert parse_alternative(text) == expected


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
    assert parse_task(text).task == expected


@pytest.mark.parametrize("after", ["\n\n**Example 5**\nInstr", "\nOutput: a", "\n\nInstruction: Ano"])
def test_a_task_that_something_follows_was_written_to_its_end(after: str) -> None:
    assert parse_task(f" {format_task(TASK)}{after}") == (TASK, True)
    assert parse_task(f" {format_task(TASK)}") == (TASK, False)
