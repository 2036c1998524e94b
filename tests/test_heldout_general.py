"""The general held-out tasks: whole, of many kinds, of all lengths, and apart from everything a run starts from."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from flywheel.config import FiltersConfig
from flywheel.core.assets import asset
from flywheel.instructions.filters import KEPT, Protected, key_of, whole_text
from flywheel.instructions.similarity import SimilarityIndex
from flywheel.instructions.tasks import read_reworded, read_seeds, read_tasks
from flywheel.records import Task

PATH = asset("data/heldout.jsonl")
ROWS = [json.loads(line) for line in PATH.read_text(encoding="utf-8").splitlines()]
TASKS = [Task(instruction=row["instruction"], input=row["input"], constraints=row["constraints"]) for row in ROWS]
FIELDS = ["kind", "instruction", "input", "constraints", "reference"]
ALIKE = 0.5
"""ROUGE-L above which two of these tasks, or one of them and a seed, would be too much alike."""
IN_A_ROW = 8


def known_tasks() -> list[Task]:
    """All that a run may start from: seeds, and the instructions shown for paraphrasing."""
    seeds = [seed.task for name in ("data/seeds.jsonl", "data/nano/seeds.jsonl") for seed in read_seeds(asset(name))]
    pairs = read_reworded(asset("data/paraphrases.jsonl"))
    return seeds + [Task(instruction=text, input="None") for pair in pairs for text in (pair.instruction, pair.alternative)]


def test_every_row_has_the_five_fields_and_nothing_else() -> None:
    for row in ROWS:
        assert list(row) == FIELDS
        assert all(isinstance(text, str) and text and text == text.strip() for text in row.values()), row


def test_a_run_reads_every_row_as_a_task() -> None:
    assert len(TASKS) >= 210
    assert read_tasks(PATH) == TASKS


def test_no_task_is_there_twice() -> None:
    assert len({key_of(task) for task in TASKS}) == len(TASKS)


def test_there_are_many_kinds_with_ten_tasks_or_more_and_the_first_lines_show_most() -> None:
    kinds = Counter(row["kind"] for row in ROWS)
    assert len(kinds) >= 14
    assert min(kinds.values()) >= 10
    assert all(kind == kind.lower() and len(kind.split()) <= 2 for kind in kinds)
    assert len({row["kind"] for row in ROWS[:50]}) >= 0.8 * len(kinds)


def test_references_are_of_all_lengths() -> None:
    lengths = [len(row["reference"].split()) for row in ROWS]
    assert max(lengths) <= 120
    assert sum(length <= 3 for length in lengths) >= 40
    assert sum(length > 50 for length in lengths) >= 40


def test_no_two_tasks_are_alike() -> None:
    index = SimilarityIndex(ALIKE)
    for task in TASKS:
        assert index.nearest(whole_text(task)) is None, task
        index.add(task.task_id, whole_text(task))


@pytest.mark.parametrize("strict", [False, True], ids=["as rounds filter", "stricter"])
def test_nothing_that_a_run_starts_from_overlaps_a_held_out_task(strict: bool) -> None:
    config = FiltersConfig(held_out_words=IN_A_ROW, held_out_similarity=ALIKE) if strict else FiltersConfig()
    protected = Protected(TASKS, config)
    for task in known_tasks():
        assert protected.overlap(task) == KEPT, task
    assert all(protected.overlap(task).reason for task in TASKS)
