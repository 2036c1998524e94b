"""How unlike each other tasks are: figures that fall where texts are alike."""

from __future__ import annotations

import pytest

from flywheel.core.assets import asset
from flywheel.evaluation.diversity import compression_ratio, distinct_n, self_bleu, task_diversity
from flywheel.instructions.tasks import read_seeds
from flywheel.records import Task

SEEDS = [seed.task for seed in read_seeds(asset("data/seeds.jsonl"))]
ALIKE = [Task(instruction="Sort the words of the list from a to z.", input=f"word {number}") for number in range(100)]


def test_distinct_n_is_the_share_of_different_runs() -> None:
    assert distinct_n(["a b c", "a b d"], 1) == pytest.approx(4 / 6)
    assert distinct_n(["a b c", "a b d"], 2) == pytest.approx(3 / 4)
    assert distinct_n(["a", "b"], 2) == 0.0
    assert distinct_n([], 1) == 0.0


def test_repeats_compress() -> None:
    assert compression_ratio(["the same words again"] * 50) > 10
    assert compression_ratio([task.instruction for task in SEEDS]) < 3
    assert compression_ratio([]) == 0.0


def test_self_bleu_is_one_where_all_are_the_same_and_small_where_all_differ() -> None:
    assert self_bleu(["sort the words of the list"] * 5) == pytest.approx(1.0)
    assert self_bleu(["one two three four", "five six seven eight", "nine ten eleven twelve"]) == 0.0
    assert self_bleu(["alone"]) == 0.0


def novel(instructions: list[str], earlier: list[str]) -> float:
    made = [[Task(instruction=one, input="x") for one in texts] for texts in (instructions, earlier)]
    return next(one.value for one in task_diversity(*made, 0, count=len(instructions)) if one.name == "tasks.novel")


def test_novel_is_what_nothing_earlier_is_like() -> None:
    assert novel(["Sort the words from a to z.", "How many legs has a spider?"], ["Sort the words from z to a."]) == 0.5
    assert novel(["Sort."], []) == 1.0
    assert novel([], ["Sort."]) == 0.0


def test_the_figures_of_a_round_tell_seeds_from_one_task_over_and_over() -> None:
    seeds = {one.name: one.value for one in task_diversity(SEEDS[:100], [], 0, count=100)}
    alike = {one.name: one.value for one in task_diversity(ALIKE, SEEDS, 0, count=len(ALIKE))}
    assert seeds["tasks.sample"] == alike["tasks.sample"] == 100
    assert seeds["tasks.distinct_2"] > 3 * alike["tasks.distinct_2"]
    assert seeds["tasks.compression_ratio"] < alike["tasks.compression_ratio"] / 3
    assert seeds["tasks.self_bleu"] < 0.2 < 0.8 < alike["tasks.self_bleu"]
    assert seeds["tasks.kinds"] > 30
    assert (alike["tasks.kinds"], alike["tasks.kind.sort"], alike["tasks.novel"]) == (1, 100, 1.0)
    again = {one.name: one.value for one in task_diversity(ALIKE, [*SEEDS, ALIKE[0]], 0, count=len(ALIKE))}
    assert again["tasks.novel"] == 0.0


def test_the_same_names_measure_the_same_sample() -> None:
    many = [*SEEDS, *(Task(instruction=f"Task {number}", input=f"number {number * 7919}") for number in range(600))]
    assert task_diversity(many, [], 0, "r1", count=len(many)) == task_diversity(many, [], 0, "r1", count=len(many))
    assert task_diversity(many, [], 0, "r1", count=len(many)) != task_diversity(many, [], 1, "r1", count=len(many))
    assert next(one.value for one in task_diversity(many, [], 0, count=len(many)) if one.name == "tasks.sample") == 500
