"""Which tasks a prompt shows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from flywheel.config import InstructionsConfig
from flywheel.core.assets import asset
from flywheel.errors import ConfigError
from flywheel.instructions.demos import Demos, diverse
from flywheel.instructions.kinds import kind_of
from flywheel.instructions.similarity import SimilarityIndex
from flywheel.instructions.tasks import read_reworded, read_seeds
from flywheel.records import SeedTask, Task

SEEDS = read_seeds(asset("data/seeds.jsonl"))
SETS = {name: {seed.task for seed in SEEDS if seed.set_name == name} for name in "12345"}
WINNERS = [Task(instruction=f"Winner number {number} about thing {number}.", input="x") for number in range(50)]


def drawn(count: int, *, winners: list[Task] | None = None, seeds: list[SeedTask] = SEEDS, **config: Any) -> list[list[Task]]:
    demos = Demos(InstructionsConfig(**config), seeds, winners or [], names=(0, "r1"))
    return [demos.choose(number) for number in range(count)]


def test_the_general_seeds_are_many_and_of_many_kinds() -> None:
    assert {seed.set_name for seed in SEEDS} == {*"12345", None}
    assert all(len(tasks) == 3 for tasks in SETS.values())
    pool = [seed for seed in SEEDS if seed.set_name is None]
    assert len(pool) >= 60
    assert len({seed.kind for seed in pool}) >= 12
    index = SimilarityIndex(0.5)
    for seed in SEEDS:
        assert index.nearest(seed.task.instruction) is None
        index.add(seed.task.task_id, seed.task.instruction)
    assert len(read_reworded(asset("data/paraphrases.jsonl"))) >= 15


def test_sets_are_shown_whole_and_all_of_them() -> None:
    shown = drawn(200)
    assert {frozenset(demos) for demos in shown} == {frozenset(tasks) for tasks in SETS.values()}
    assert len({tuple(demos) for demos in shown}) == 30  # every order of every set


def test_the_pool_shows_any_three_different_seeds() -> None:
    shown = drawn(300, demos="pool")
    assert all(len(set(demos)) == 3 for demos in shown)
    assert {task for demos in shown for task in demos} == {seed.task for seed in SEEDS}


def test_evolving_demos_have_their_share_of_winners() -> None:
    shown = drawn(600, demos="evolving", evolving_share=0.5, winners=WINNERS)
    winners = Counter(sum(task in WINNERS for task in demos) for demos in shown)
    assert sum(number * count for number, count in winners.items()) / 1800 == pytest.approx(0.5, abs=0.05)
    assert set(winners) == {0, 1, 2, 3}
    assert all(len(set(demos)) == 3 for demos in shown)


def test_evolving_demos_without_winners_are_the_pool() -> None:
    assert drawn(20, demos="evolving") == drawn(20, demos="pool")


def test_the_same_names_draw_the_same_demos() -> None:
    for mode in ("sets", "pool", "evolving"):
        assert drawn(20, demos=mode, winners=WINNERS) == drawn(20, demos=mode, winners=WINNERS[::-1])
        other = Demos(InstructionsConfig(demos=mode), SEEDS, WINNERS, names=(1, "r1"))
        assert [other.choose(number) for number in range(20)] != drawn(20, demos=mode, winners=WINNERS)


def test_diverse_tasks_are_unlike_each_other() -> None:
    alike = [
        Task(instruction=f"Sort the words from a to z, please {word}.", input="x") for word in "one two three four five".split()
    ]
    unlike = [Task(instruction="Translate into Welsh", input="x"), Task(instruction="How many legs has it?", input="x")]
    chosen = diverse([*alike, *unlike], 0, compare="instruction", most=3)
    assert set(unlike) < set(chosen)
    assert diverse([*alike, *alike], 0, compare="instruction", most=10) != []
    same = [Task(instruction="Sort the words.", input=text) for text in ("a", "b", "c")]
    assert len(diverse(same, 0, compare="instruction")) == 1
    assert len(diverse(same, 0, compare="task")) == 3


def test_too_few_seeds_are_refused() -> None:
    with pytest.raises(ConfigError) as error:
        drawn(1, seeds=SEEDS[:2])
    assert error.value.message.endswith(": 2")
    assert "3" in error.value.hint


@pytest.mark.parametrize(
    ("instruction", "kind"),
    [
        ("Sort the words.", "sort"), ("In this task you are given a text. Summarise it in a line.", "summarise"),
        ("You will be given a list of words; your job is to classify them.", "classify"), ("Which word comes first?", "which"),
        ("The list of names is long.", "other"), ("判断句子的情感。", "other"), ("Read it and answer the question.", "answer"),
        ("How would you explain it to a child?", "how"), ("", "other"), ("PLEASE WRITE A POEM", "write"),
    ],
)  # fmt: skip
def test_the_kind_is_what_is_asked_for(instruction: str, kind: str) -> None:
    assert kind_of(instruction) == kind
