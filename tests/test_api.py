"""The Python API: what the commands do, from a script or a notebook, with the same errors."""

from __future__ import annotations

import inspect
import os
from pathlib import Path

import pytest

import flywheel
from tests.conftest import copy

MODEL = Path(__file__).parents[1] / "data" / "nano" / "generator"
TASKS = [
    flywheel.Task(instruction="Say whether the word is in the list.", input="ant; ant, bee"),
    flywheel.Task(instruction="Give the largest number.", input="3, 9, 4"),
]


@pytest.fixture
def wheel(turned: Path, tmp_path: Path) -> flywheel.Flywheel:
    return flywheel.open(copy(turned, tmp_path))


def test_the_names_that_are_public() -> None:
    assert flywheel.__all__ == [
        "BestOfN", "BudgetSpent", "Comparison", "ConfigError", "DataError", "EngineError", "Flywheel", "FlywheelError",
        "Interrupted", "ModelError", "RewardModel", "Round", "StoreError", "Task", "Trend", "Verdict", "__version__",
        "best_of_n", "compare_scores", "open",
    ]  # fmt: skip
    for name in flywheel.__all__:
        value = getattr(flywheel, name)
        assert name == "__version__" or inspect.getdoc(value), name


def test_rounds_compare_and_trend_say_what_the_commands_say(wheel: flywheel.Flywheel) -> None:
    assert [(row.name, row.status) for row in wheel.rounds()] == [("r0", "done"), ("r1", "done"), ("r2", "done")]
    comparison = wheel.compare("r0", "r1")
    assert comparison.verdict == wheel["r1"].verdict
    assert wheel.trend().rounds == ("r0", "r1", "r2")
    for shown in (wheel["r1"], comparison, wheel.trend()):
        assert shown._repr_html_().startswith("<table")


def test_a_dataset_and_sql_have_the_rows_of_the_store(wheel: flywheel.Flywheel) -> None:
    dataset = wheel.dataset("r2")
    rows = wheel.sql("SELECT instruction, output FROM dataset WHERE round = 'r2' ORDER BY ALL")
    assert sorted(zip(dataset["instruction"], dataset["output"], strict=True)) == rows.fetchall()
    assert rows.columns == ["instruction", "output"]
    assert wheel.sql("SELECT 2::HUGEINT ** 100 AS large, NULL AS missing").columns == ["large", "missing"]
    assert wheel.sql("SELECT 170141183460469231731687303715884105727 AS largest").fetchall() == [(str(2**127 - 1),)]
    assert len(wheel.dataset("r1")) == wheel["r1"].summary["winners"]


def test_another_process_can_write_while_a_relation_is_held(wheel: flywheel.Flywheel) -> None:
    rows = wheel.sql("FROM rounds")
    with wheel.workspace.at_work():
        wheel.workspace.store.set_status("r2", "running")
    assert len(rows.fetchall()) == 3


def test_a_round_can_be_run_from_python(built: Path, tmp_path: Path) -> None:
    seen = []
    wheel = flywheel.open(copy(built, tmp_path), overrides={"instructions.tasks": 20})
    rounds = wheel.round(n=2, on_round=lambda finished: seen.append(finished.name))
    assert [finished.name for finished in rounds] == seen == ["r0", "r1"]
    assert rounds[-1].summary["candidates"] == 40
    assert rounds[-1].verdict in set(flywheel.Verdict)


def test_best_of_n_ranks_by_the_reward_model_and_by_a_function(wheel: flywheel.Flywheel, tmp_path: Path) -> None:
    by_model = flywheel.best_of_n(TASKS, MODEL, wheel.reward_model(), n=3, max_tokens=24, cache=tmp_path)
    for found in by_model:
        rewards = [candidate.reward for candidate in found.candidates if candidate.finished]
        assert len(found.candidates) == 3
        assert rewards == sorted(rewards, reverse=True)
    shortest = flywheel.best_of_n(
        TASKS, MODEL, lambda prompts, outputs: [-len(output) for output in outputs], n=3, max_tokens=24, cache=tmp_path
    )
    assert [{one.output for one in found.candidates} for found in shortest] == [
        {one.output for one in found.candidates} for found in by_model
    ]
    assert all(found.winner is None or found.winner.reward == -len(found.winner.output) for found in shortest)


def test_sample_uses_the_latest_generator(wheel: flywheel.Flywheel) -> None:
    (first, _), (again, _) = wheel.sample(TASKS), wheel.sample(TASKS)
    assert first == again
    assert first.prompt == TASKS[0]


def test_a_closed_workspace_is_refused(wheel: flywheel.Flywheel) -> None:
    with wheel:
        wheel.rounds()
    with pytest.raises(flywheel.StoreError) as closed:
        wheel.rounds()
    assert "open" in closed.value.hint


def merged(wheel: flywheel.Flywheel) -> Path:
    return next(wheel.workspace.models.glob("reward-*"))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda wheel: wheel["r9"], flywheel.StoreError),
        (lambda wheel: wheel.compare("r0", "r9"), flywheel.StoreError),
        (lambda wheel: wheel.dataset("r9"), flywheel.StoreError),
        (lambda wheel: wheel.sql("DELETE FROM tasks"), flywheel.StoreError),
        (lambda wheel: wheel.sql("SELECT nothing"), flywheel.StoreError),
        (lambda wheel: wheel.round(control="best"), flywheel.ConfigError),
        (lambda wheel: wheel.round(until="better"), flywheel.ConfigError),
        (lambda wheel: wheel.round(n=0), flywheel.ConfigError),
        (lambda wheel: wheel.config({"sampling.m": 1}), flywheel.ConfigError),
        (lambda wheel: wheel.config("sampling.n=1"), flywheel.ConfigError),
        (lambda wheel: wheel.ensure("smollm2-135m"), flywheel.ConfigError),
        (lambda wheel: wheel.create(), flywheel.StoreError),
        (lambda wheel: flywheel.best_of_n(["a"], "model.gguf", len), flywheel.ModelError),
        (lambda wheel: flywheel.best_of_n(["a"], MODEL, len, n=0), flywheel.ConfigError),
        (lambda wheel: flywheel.best_of_n(["a"], MODEL, lambda prompts, outputs: [], n=1), flywheel.DataError),
        (lambda wheel: flywheel.best_of_n(["a"], "no/such-model", len), flywheel.ModelError),
        (lambda wheel: flywheel.best_of_n(["a"], MODEL, len, engine="none"), flywheel.ConfigError),
        (lambda wheel: flywheel.best_of_n(["a"], "m", len, address="localhost"), flywheel.ConfigError),
        (lambda wheel: flywheel.compare_scores([1.0, 0.0], [1.0]), flywheel.DataError),
        (lambda wheel: wheel.reward_model().score(["a"], ["b", "c"]), flywheel.DataError),
        (lambda wheel: flywheel.RewardModel.load("no/such-folder"), flywheel.ModelError),
        (lambda wheel: wheel.round(repeat=0), flywheel.ConfigError),
        (lambda wheel: wheel.report("."), flywheel.ConfigError),
        (lambda wheel: wheel.sample(TASKS[0]), flywheel.DataError),
        (lambda wheel: wheel.sample(["a"]), flywheel.DataError),
        (lambda wheel: flywheel.best_of_n("hello", MODEL, len), flywheel.DataError),
        (lambda wheel: flywheel.best_of_n([3], MODEL, len), flywheel.DataError),
        (lambda wheel: flywheel.best_of_n(["a"], MODEL, 3), flywheel.DataError),
        (lambda wheel: flywheel.best_of_n(["a"], MODEL, len, max_tokens=0), flywheel.ConfigError),
        (lambda wheel: flywheel.best_of_n(["a"], MODEL, lambda prompts, outputs: None, n=1), flywheel.DataError),
        (lambda wheel: flywheel.best_of_n(["a"], MODEL, lambda prompts, outputs: [float("nan")], n=1), flywheel.DataError),
        (lambda wheel: flywheel.compare_scores([1.0], [1.0], names=("a",)), flywheel.DataError),
        (lambda wheel: wheel.reward_model().score(["a"], [None]), flywheel.DataError),
        (lambda wheel: wheel.reward_model().score([3], ["a"]), flywheel.DataError),
        (lambda wheel: flywheel.RewardModel.load(merged(wheel), device="nothing"), flywheel.ConfigError),
        (lambda wheel: flywheel.RewardModel.load(merged(wheel), dtype="int3"), flywheel.ConfigError),
        (lambda wheel: flywheel.RewardModel.load(merged(wheel), max_length=0), flywheel.ConfigError),
    ],
)  # fmt: skip
def test_bad_input_raises_the_errors_of_the_command_line(
    wheel: flywheel.Flywheel, call: object, error: type[Exception]
) -> None:
    with pytest.raises(error) as raised:
        call(wheel)  # type: ignore[operator]
    assert isinstance(raised.value, flywheel.FlywheelError)
    assert raised.value.message


def test_a_missing_workspace_is_created_from_a_preset(small: list[str], tmp_path: Path) -> None:
    wheel = flywheel.open(tmp_path / "new", config="nano", overrides=small)
    assert wheel.workspace.config_file.exists()
    assert wheel.rounds() == []
    assert os.listdir(tmp_path) == ["new"]
