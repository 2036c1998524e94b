"""The nano world: right answers, systematic mistakes, and data that is what it says."""

from __future__ import annotations

import importlib
import json
import random
import sys
from collections import Counter
from pathlib import Path

import pytest

from flywheel.config import DataConfig
from flywheel.core.assets import asset
from flywheel.instructions.prompts import Prompts
from flywheel.instructions.tasks import read_seeds, read_tasks
from flywheel.nano.verifier import check, judge
from flywheel.nano.world import FAMILIES, draw_task, right_output
from flywheel.records import Task
from flywheel.reward.data import PreferenceSet, Thumb
from flywheel.reward.reading import read_set
from flywheel.reward.sources import Split, read_source

NANO = asset("data/nano")
sys.path.append(str(NANO))
data, mistakes = (importlib.import_module(name) for name in ("preferences", "mistakes"))


def preferences(name: str) -> PreferenceSet:
    config = DataConfig(kind="thumbs" if name == "thumbs" else "pairs", data=name)
    return read_set(read_source([NANO / f"{name}.jsonl"]), config)


def drawn(count: int) -> list[Task]:
    rng = random.Random(1)
    return [draw_task(rng) for _ in range(count)]


@pytest.mark.parametrize(
    ("instruction", "text", "constraints", "output"),
    [
        ("Reverse the order of the words.", "cat, pear, saw", "None", "saw, pear, cat"),
        ("Sort the words from a to z.", "pear, cat", "End with a full stop.", "cat, pear."),
        ("How many words are in the list?", "cat, pear, saw", "Put the answer in brackets.", "(3)"),
        ("Make the word plural.", "wolf", "Begin with Answer and a colon.", "Answer: wolves"),
        ("Write the past tense of the verb.", "go", "None", "went"),
        ("Which number is larger?", "9, 10", "None", "10"),
        ("What is the sum?", "9, 10", "None", "19"),
        ("What is the opposite?", "cold", "None", "hot"),
        ("Find the animal.", "saw, cat, pear", "None", "cat"),
    ],
)
def test_right_outputs(instruction: str, text: str, constraints: str, output: str) -> None:
    task = Task(instruction=instruction, input=text, constraints=constraints)
    assert right_output(task) == output
    assert judge([(task, output), (task, f" {output}\n"), (task, "nonsense")]) == [1.0, 1.0, 0.0]


def test_there_are_eleven_families_or_more_and_all_are_drawn() -> None:
    seen = Counter(task.instruction for task in drawn(5000))
    assert len(FAMILIES) >= 11
    assert set(seen) == {phrasing for family in FAMILIES for phrasing in family.phrasings}


def test_a_right_output_passes_and_every_mistake_fails_in_its_own_respect() -> None:
    rng = random.Random(2)
    for task in drawn(3000):
        assert judge([(task, str(right_output(task)))]) == [1.0]
        wrong = check(task, mistakes.blurred_output(task, rng, wrong_answer=1, wrong_form=0))
        assert wrong is not None
        assert (wrong.answer, wrong.form) == (False, True), task
        formless = check(task, mistakes.blurred_output(task, rng, wrong_answer=0, wrong_form=1))
        assert formless is not None
        assert (formless.answer, formless.form) == (True, False), task


@pytest.mark.parametrize(
    "task",
    [
        Task(instruction="Write a poem.", input="cat"),
        Task(instruction="What is the opposite?", input="cat"),
        Task(instruction="Find the animal.", input="cat, dog, saw"),
        Task(instruction="What is the sum?", input="9, x"),
        Task(instruction="What is the sum?", input="9, 10", constraints="In French."),
    ],
)
def test_the_judge_says_nothing_of_tasks_it_does_not_know(task: Task) -> None:
    assert judge([(task, "x")]) == [None]
    assert right_output(task) is None


def test_seeds_and_held_out_tasks_are_what_the_script_builds() -> None:
    seeds = [json.loads(line) for line in (NANO / "seeds.jsonl").read_text().splitlines()]
    assert seeds == data.seed_tasks()
    assert set(Counter(seed.set_name for seed in read_seeds(NANO / "seeds.jsonl")).values()) == {3}
    assert len(seeds) >= 15
    assert read_tasks(NANO / "heldout.jsonl") == data.held_out_tasks()
    assert len(data.held_out_tasks()) >= 400


def test_nothing_held_out_is_a_seed_or_in_the_preferences() -> None:
    held = {(task.instruction, task.input) for task in data.held_out_tasks()}
    for name in ("seeds", "thumbs", "pairs", "form"):
        rows = [json.loads(line) for line in (NANO / f"{name}.jsonl").read_text().splitlines()]
        assert not held & {(row["instruction"], row["input"]) for row in rows}, name


@pytest.mark.parametrize(("name", "least"), [("thumbs", 3000), ("pairs", 3000), ("form", 2000)])
def test_one_train_label_in_ten_is_wrong_and_none_of_the_others(name: str, least: int) -> None:
    right: dict[Split, list[bool]] = {split: [] for split in Split}
    for row in preferences(name).rows:
        assert row.split
        seen = [check(answer.task, answer.output) for answer in row.answers if answer.task]
        assert all(seen)
        if isinstance(row, Thumb):
            right[row.split].append((seen[0].answer and seen[0].form) == row.liked)  # type: ignore[union-attr]
        else:
            chosen, rejected = ((one.answer, one.form) for one in seen)  # type: ignore[union-attr]
            right[row.split].append(chosen > rejected)
    assert sum(map(len, right.values())) >= least
    assert all(right[Split.VALIDATION])
    assert all(right[Split.TEST])
    assert sum(right[Split.TRAIN]) / len(right[Split.TRAIN]) == pytest.approx(0.9, abs=0.02)


def test_no_task_is_in_two_splits_of_any_set() -> None:
    splits: dict[tuple[str, str], set[str]] = {}
    for name in ("thumbs", "pairs", "form"):
        for line in (NANO / f"{name}.jsonl").read_text().splitlines():
            row = json.loads(line)
            splits.setdefault((row["instruction"], row["input"]), set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())


def test_preferences_built_twice_are_the_same(prompts: Prompts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: (60, make) for name, (_, make) in data.PREFERENCES.items()}
    monkeypatch.setattr(data, "PREFERENCES", few)
    once, again = (data.preferences(prompts, NANO / "generator", tmp_path / name) for name in ("a", "b"))
    assert once == again
    assert {name: len(rows) for name, rows in once.items()} == {"thumbs": 60, "pairs": 60, "form": 60}


def test_the_committed_weights_are_small_safetensors() -> None:
    weights = NANO / "generator" / "model.safetensors"
    assert weights.stat().st_size <= 4_000_000
    assert not list((NANO / "generator").glob("*.bin"))
