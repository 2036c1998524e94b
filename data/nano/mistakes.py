"""The mistakes that models of the nano world are trained to make.

A mistake is a wrong function rather than a random word wherever that is possible: a generator blurred with systematic
mistakes cannot tell right from wrong by its own likelihood, so that a reward model is needed.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from flywheel.nano.world import CATEGORIES, CATEGORY_OF, CONSTRAINTS, FAMILY_OF, find_animal, numbers, split_list
from flywheel.records import Task


def _off_by_one(text: str, rng: random.Random) -> str:
    return str(max(1, len(split_list(text)) + rng.choice((-1, 1, 1))))


def _other_category(text: str, rng: random.Random) -> str:
    return rng.choice([category for category in CATEGORIES if category != CATEGORY_OF.get(text)])


def _another_word(text: str, rng: random.Random) -> str:
    animal = find_animal(text)
    return rng.choice([word for word in split_list(text) if word != animal])


def _difference(text: str) -> str:
    first, second = numbers(text) or (0, 0)
    return str(abs(first - second))


MISTAKES: dict[str, Callable[[str, random.Random], str]] = {
    "first": lambda text, rng: split_list(text)[-1],
    "last": lambda text, rng: split_list(text)[0],
    "reverse": lambda text, rng: ", ".join(split_list(text)),
    "sort": lambda text, rng: ", ".join(sorted(split_list(text), reverse=True)),
    "count": _off_by_one,
    "opposite": lambda text, rng: text,
    "category": _other_category,
    "animal": _another_word,
    "plural": lambda text, rng: text,
    "past": lambda text, rng: text + "ing",
    "larger": lambda text, rng: str(min(numbers(text) or (0, 0))),
    "sum": lambda text, rng: _difference(text),
}
"""A wrong answer of each family."""


def blurred_output(task: Task, rng: random.Random, *, wrong_answer: float, wrong_form: float) -> str:
    """An output of a task of this world, with the mistakes that its models are prone to."""
    family = FAMILY_OF[task.instruction]
    answer = family.answer(task.input)
    if answer is None:
        raise ValueError(f"not a task of this world: {task}")
    if rng.random() < wrong_answer:
        answer = MISTAKES[family.name](task.input, rng)
    form = task.constraints
    if rng.random() < wrong_form:
        # The usual slip is to ignore the constraint; where there is none, to add one.
        form = "None" if form != "None" else rng.choice([name for name in CONSTRAINTS if name != "None"])
    return CONSTRAINTS[form](answer)
