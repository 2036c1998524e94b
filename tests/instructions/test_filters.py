"""Every reason to drop a task, and what is no reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flywheel.config import FiltersConfig
from flywheel.errors import ConfigError, DataError
from flywheel.instructions.filters import KEPT, REFUSAL, Decision, Dropped, Filters, key_of
from flywheel.records import FinishReason, Task

TASK = Task(instruction="Sort the words in alphabetical order.", input="pear, fig, apple", constraints="One line.")
LONG = Task(
    instruction="Summarise the letter from the harbour master to the owners of the boats in the outer basin.",
    input="The gates will be closed on Monday from six to nine in the morning, "
    "so please move all boats to the inner basin before then.",
    constraints="None",
)


def task(instruction: str, text: str = "x", constraints: str = "None") -> Task:
    return Task(instruction=instruction, input=text, constraints=constraints)


def decide(
    one: Task | None, *, known: list[Task] | None = None, protected: list[Task] | None = None,
    cut: bool = False, raw: str = "", demos: list[Task] | None = None, **config: Any,
) -> Decision:  # fmt: skip
    filters = Filters(FiltersConfig(**config), protected=protected or [], known=known or [])
    ended = FinishReason.LENGTH if cut else FinishReason.STOP
    return filters.check(one, raw, ended=ended, demos={key_of(demo) for demo in demos or []})


def test_a_task_like_no_other_is_kept() -> None:
    assert decide(TASK, known=[LONG], protected=[LONG], demos=[LONG]) == KEPT


def test_each_reason_is_named() -> None:
    assert decide(TASK, cut=True).reason == Dropped.TRUNCATED
    assert decide(None, raw="Once upon a time").reason == Dropped.MISSING_FIELD
    assert decide(None, raw=" I'm sorry, but I can't do that.").reason == Dropped.REFUSAL
    assert decide(task("As an AI language model, I cannot write this.")).reason == Dropped.REFUSAL
    assert decide(task("As an AI language model, I cannot write this."), refusals=False) == KEPT
    assert decide(TASK, max_words=10).reason == Dropped.TOO_LONG
    assert decide(TASK, max_words=11) == KEPT
    assert decide(task("Ordne die Wörter in der Liste nach dem Alphabet."), language="en").reason == Dropped.WRONG_LANGUAGE
    assert decide(TASK, language="en") == KEPT
    assert decide(TASK, demos=[TASK], known=[TASK]).reason == Dropped.COPIES_DEMO
    assert decide(TASK, known=[TASK]).reason == Dropped.EXACT_DUPLICATE


def test_a_repeat_is_one_however_it_is_spaced_and_whatever_its_constraints() -> None:
    spaced = task("Sort the  words in\nalphabetical order.", "pear, fig, apple ", "Another.")
    assert decide(spaced, known=[TASK]).reason == Dropped.EXACT_DUPLICATE


def test_near_duplicates_name_what_they_are_like() -> None:
    other = task("Sort the words in reverse alphabetical order.", "another input")
    assert decide(other, known=[LONG, TASK]) == Decision(
        reason=Dropped.NEAR_DUPLICATE, nearest=TASK.task_id, similarity=pytest.approx(12 / 13)
    )
    assert decide(other, known=[TASK], near_duplicate=None) == KEPT
    assert decide(other, known=[TASK], near_duplicate=0.95) == KEPT
    # Instruction and input together are less alike, for the inputs differ.
    assert decide(other, known=[TASK], compare="task", near_duplicate=0.8) == KEPT
    assert decide(task(TASK.instruction, "pear, fig"), known=[TASK], compare="task").reason == Dropped.NEAR_DUPLICATE


def test_tasks_that_are_kept_count_from_then_on() -> None:
    filters = Filters(FiltersConfig(), protected=[], known=[])
    assert filters.check(TASK, "", ended=FinishReason.STOP, demos=()) == KEPT
    assert filters.novelty(TASK) == 1.0
    filters.keep(TASK)
    assert filters.check(TASK, "", ended=FinishReason.STOP, demos=()).reason == Dropped.EXACT_DUPLICATE
    assert filters.novelty(task("Sort the words in reverse alphabetical order.")) == pytest.approx(1 / 13)


def test_held_out_tasks_are_not_trained_on() -> None:
    same = decide(task(LONG.instruction, LONG.input, "Another constraint."), protected=[LONG])
    assert same == Decision(reason=Dropped.DECONTAMINATION, nearest=LONG.task_id, similarity=1.0)
    quoted = task("Who wrote this?", "Dear all, " + LONG.input[:80])
    assert decide(quoted, protected=[LONG]) == Decision(reason=Dropped.DECONTAMINATION, nearest=LONG.task_id)
    assert decide(quoted, protected=[LONG], held_out_words=None) == KEPT
    close = task(LONG.instruction.replace("harbour", "dock"), LONG.input.replace("six", "seven").replace("boats", "barges"))
    found = decide(close, protected=[LONG], held_out_words=None)
    assert found.reason == Dropped.DECONTAMINATION
    assert found.similarity == pytest.approx(0.923, abs=0.01)
    assert decide(close, protected=[LONG], held_out_words=None, held_out_similarity=None) == KEPT


def test_the_same_instruction_with_another_input_does_not_overlap() -> None:
    other = task(LONG.instruction, "We thank everybody who came to the regatta and hope that the weather is kinder next year.")
    assert decide(other, protected=[LONG], held_out_words=20) == KEPT


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.", " I am unable to create a new example.", "Sorry, I need more context.",
        "I cannot assist with this request.", "As an AI, I have no opinion.", "I apologize, there is not enough information.",
        "Unfortunately, I do not know.", "I won't provide that.",
    ],
)  # fmt: skip
def test_refusals_are_recognised(text: str) -> None:
    assert REFUSAL.search(text)


@pytest.mark.parametrize(
    "text",
    [
        "Rewrite the apology so that it begins with 'I'm sorry'.", "Explain why I cannot divide by zero.",
        "As an assistant in a shop, answer the customer.", "Unfortunately, the train is late. Write a message to a friend.",
        "I do not understand this sentence: translate it.",
    ],
)  # fmt: skip
def test_tasks_that_speak_of_refusing_are_none(text: str) -> None:
    assert not REFUSAL.search(text)


def test_a_filter_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_filters.py").write_text(
        "def no_fruit(task):\n    return 'fruit' if 'fig' in task.input else None\n"
        "def fails(task):\n    raise ValueError('no idea')\ndef leaves(task):\n    raise SystemExit(3)\n"
        "def two_lines(task):\n    return 'one\\n two'\ndef wrong(task):\n    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert decide(TASK, custom=("own_filters:no_fruit",)).reason == "fruit"
    assert decide(LONG, custom=("own_filters:no_fruit",)) == KEPT
    assert decide(TASK, custom=("own_filters:two_lines",)).reason == "one two"
    for name, quoted in (("fails", "ValueError: no idea"), ("leaves", "SystemExit: 3"), ("wrong", "3")):
        with pytest.raises(DataError) as error:
            decide(TASK, custom=(f"own_filters:{name}",))
        assert f"own_filters:{name}" in error.value.message
        assert quoted in error.value.message
        assert error.value.hint
    with pytest.raises(ConfigError) as missing:
        decide(TASK, custom=("own_filters:gone",))
    assert "own_filters:gone" in missing.value.message


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        decide(TASK, language="qq")
    assert "'qq'" in error.value.message
    assert "instructions.filters.language" in error.value.message
    assert "ace, af, am" in error.value.hint
