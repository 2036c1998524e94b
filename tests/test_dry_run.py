"""The dry run: it counts what a round does, its sums are right, and it writes nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import huggingface_hub
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    Qwen3Config,
)

from flywheel.core.assets import asset
from flywheel.errors import ModelError
from flywheel.estimate.checks import memory_short
from flywheel.estimate.inputs import memory_of, shape_of
from flywheel.estimate.plan import Work
from tests.conftest import HELD_OUT, Cli, copy
from tests.test_loop import rows

pytestmark = pytest.mark.slow

NANO = asset("data/nano/generator")
TRUE_SIZES: dict[str, tuple[PretrainedConfig, int]] = {
    "gpt2": (GPT2Config(), 124_439_808),
    "smollm2-135m": (
        LlamaConfig(
            vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
            num_key_value_heads=3, tie_word_embeddings=True,
        ),
        134_515_008,
    ),
    "qwen3-0.6b": (
        Qwen3Config(
            vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
            num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
        ),
        596_049_920,
    ),
    "qwen3-8b": (
        Qwen3Config(
            vocab_size=151936, hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, num_attention_heads=32,
            num_key_value_heads=8, head_dim=128, tie_word_embeddings=False,
        ),
        8_190_735_360,
    ),
}  # fmt: skip
"""Models of the presets, and their published numbers of parameters."""


def planned(cli: Cli, workspace: Path, *options: str) -> dict[str, Any]:
    outcome = cli("-w", workspace, "round", "--dry-run", "--json", *options)
    assert outcome.code == 0, outcome.err
    plan: dict[str, Any] = json.loads(outcome.out, parse_constant=lambda name: pytest.fail(name))
    return plan


def by_name(plan: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {work["name"]: work for work in plan["work"]}


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


# What is counted is what a round does


def test_a_round_does_what_was_planned(cli: Cli, small: list[str], turned: Path, tmp_path: Path) -> None:
    plan = planned(cli, tmp_path / "w", *(f"--set={setting}" for setting in small))
    work = by_name(plan)
    assert plan["round"] == "r1"
    assert plan["done"] == []
    done = {
        f"{name} {stage}": (count, tokens, read)
        for name, stage, count, tokens, read in rows(
            turned, "SELECT round, stage, rows, tokens, prompt_tokens FROM stages WHERE round IN ('r0', 'r1')"
        )
    }
    assert set(done) == {name for name in work if name.startswith(("r0 ", "r1 "))}
    exact = ("r0 evaluate", "r1 answer", "r1 score", "r1 train", "r1 evaluate")
    assert {name: work[name]["rows"] for name in exact} == {name: done[name][0] for name in exact}
    assert all(done[name][0] <= work[name]["rows"] for name in done)
    assert all(done[name][1] <= work[name]["most_tokens"] for name in done)
    # All held-out tasks were read for the plan, in the engine's own tokens.
    assert work["r0 evaluate"]["prompt_tokens"] == done["r0 evaluate"][2] == work["r1 evaluate"]["prompt_tokens"]
    kept, winners, trained = rows(
        turned,
        "SELECT (SELECT count(*) FROM tasks WHERE round = 'r1' AND kept), (SELECT count(*) FROM dataset WHERE round = 'r1'), "
        "(SELECT facts->>'rows' FROM models WHERE kind = 'generator' AND name = 'r1')",
    )[0]
    assert work["r1 propose"]["count"] == kept == 80
    assert work["r1 select"]["rows"] == 80 * 5 + 80 * 3
    assert winners <= 80
    assert work["r1 train"]["count"] == math.ceil((80 + 20) / 32) * 2
    assert int(trained) <= 100


def test_the_reward_model_is_built_in_the_steps_that_were_planned(
    cli: Cli, small: list[str], turned: Path, tmp_path: Path
) -> None:
    work = by_name(planned(cli, tmp_path / "w", *(f"--set={setting}" for setting in small)))
    models = rows(
        turned, "SELECT name, (facts->>'rows')::INT, kind FROM models WHERE kind = 'member' OR name = 'joint' ORDER BY name"
    )
    for name, count, kind in models:
        assert work[name if kind == "base" else f"member {name}"]["count"] == math.ceil(math.ceil(count / 48) / 2), name


def test_finished_rounds_give_the_time_of_the_next_one(cli: Cli, turned: Path) -> None:
    plan = planned(cli, turned)
    work = by_name(plan)
    assert plan["round"] == "r3"
    assert plan["done"] == ["reward model"]
    assert list(work) == [f"r3 {stage}" for stage in ("propose", "answer", "score", "select", "judge", "train", "evaluate")]
    assert {work["basis"] for work in plan["work"]} == {"r2"}
    assert plan["total"]["seconds"] == pytest.approx(sum(work["seconds"] for work in plan["work"]))
    measured = {
        stage: (seconds, tokens)
        for stage, seconds, tokens in rows(turned, "SELECT stage, seconds, tokens FROM stages WHERE round = 'r2'")
    }
    for stage in ("answer", "score", "evaluate"):
        assert work[f"r3 {stage}"]["seconds"] == pytest.approx(measured[stage][0])
        assert work[f"r3 {stage}"]["tokens"] == measured[stage][1]
    twice = by_name(planned(cli, turned, "--n", "8"))
    assert twice["r3 answer"]["seconds"] == pytest.approx(2 * measured["answer"][0])
    assert twice["r3 evaluate"]["seconds"] == pytest.approx(measured["evaluate"][0])
    # With other settings, what was measured no longer holds.
    other = planned(cli, turned, "--set", "sampling.max_tokens=16")
    assert {name: work["basis"] for name, work in by_name(other).items()} == {
        "r3 propose": "r2", "r3 answer": None, "r3 score": "r2", "r3 select": "r2", "r3 judge": None, "r3 train": "r2",
        "r3 evaluate": None,
    }  # fmt: skip
    assert by_name(other)["r3 answer"]["seconds"] is None
    assert other["total"]["seconds"] is None


def test_what_an_unfinished_round_has_done_is_not_planned_again(cli: Cli, turned: Path, tmp_path: Path) -> None:
    folder = copy(turned, tmp_path)
    with duckdb.connect(str(folder / "flywheel.duckdb")) as db:
        db.execute("UPDATE rounds SET status = 'failed' WHERE round = 'r2'")
        db.execute("DELETE FROM stages WHERE round = 'r2' AND stage = 'evaluate'")
        db.execute("UPDATE stages SET finished_at = NULL WHERE round = 'r2' AND stage = 'train'")
    plan = planned(cli, folder)
    assert plan["round"] == "r2"
    assert set(plan["done"]) == {"reward model", "r2 propose", "r2 answer", "r2 score", "r2 select", "r2 judge"}
    assert list(by_name(plan)) == ["r2 train", "r2 evaluate"]
    outcome = cli("-w", folder, "round", "--dry-run", "--n", "3")
    assert outcome.code == 1
    assert "sampling.n = 4 (now 3)" in outcome.error
    assert list(by_name(planned(cli, folder, "--n", "3", "--restart")))[:2] == ["r2 propose", "r2 answer"]


# It writes nothing


def test_nothing_is_written(cli: Cli, turned: Path, tmp_path: Path) -> None:
    assert cli("-w", tmp_path / "new" / "workspace", "round", "--dry-run").code == 0
    assert list(tmp_path.iterdir()) == []
    folder = copy(turned, tmp_path)
    before = files_of(tmp_path)
    assert cli("-w", folder, "round", "--dry-run", "--set", "instructions.tasks=7").code == 0
    assert files_of(tmp_path) == before


def test_a_plan_as_text(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("-w", tmp_path / "w", "round", "--dry-run", "--set", "prices.hour=2")
    assert outcome.code == 0
    assert outcome.err == ""
    lines = outcome.out.splitlines()
    assert "generator: llama, 4 layers, 935,040 parameters" in lines
    assert "reward: llama, 3 layers, 721,920 parameters" in lines
    header = next(line for line in lines if line.startswith("work"))
    answer = next(line for line in lines if line.startswith("r1 answer"))
    assert "cost" in header
    assert answer.split()[2:4] == ["2,000", "candidates"]
    # Nothing has measured its time yet, so neither time nor cost is known.
    assert answer.split()[-2:] == ["unknown", "unknown"]


def test_cost_without_a_price_for_time_is_known_before_any_round(cli: Cli, tmp_path: Path) -> None:
    prices = ("--set", "prices.million_tokens=2", "--set", "prices.million_prompt_tokens=1")
    plan = planned(cli, tmp_path / "w", *prices)
    answer = by_name(plan)["r1 answer"]
    assert answer["seconds"] is None
    assert answer["cost"] == pytest.approx((2 * answer["tokens"] + answer["prompt_tokens"]) / 1e6)
    assert plan["total"]["cost"] == pytest.approx(sum(work["cost"] for work in plan["work"]))
    priced = planned(cli, tmp_path / "w", *prices, "--set", "prices.hour=1")
    assert priced["total"]["cost"] is None


# Sizes


def test_nano_has_as_many_parameters_as_its_weights() -> None:
    weights = AutoModelForCausalLM.from_pretrained(NANO)
    shape = shape_of(NANO)
    assert shape.parameters == sum(weight.numel() for weight in weights.parameters()) == 935_040
    assert (shape.layers, shape.vocabulary, shape.positions) == (4, 640, 512)


def test_the_reward_model_has_the_layers_and_one_head() -> None:
    config = AutoModelForCausalLM.from_pretrained(NANO).config
    config.num_hidden_layers, config.num_labels = 3, 1
    real = AutoModelForSequenceClassification.from_config(config)
    shape = shape_of(NANO, layers=3)
    assert shape.parameters == sum(weight.numel() for weight in real.parameters()) == 721_920
    assert shape.layers == 3
    with pytest.raises(ModelError) as error:
        shape_of(NANO, layers=9)
    assert "reward.layers = 9" in error.value.message
    assert error.value.hint


@pytest.mark.parametrize("name", TRUE_SIZES)
def test_models_of_true_size_are_counted_without_their_weights(name: str, tmp_path: Path) -> None:
    config, parameters = TRUE_SIZES[name]
    config.save_pretrained(tmp_path)
    assert shape_of(tmp_path).parameters == parameters


def test_memory_is_weights_gradients_adam_states_and_logits(cli: Cli, tmp_path: Path) -> None:
    sets = ("training.batch_size=32", "training.max_length=40", "sampling.max_tokens=32", "engine.compute_type=int8")
    options = [f"--set={setting}" for setting in (*sets, "engine.workers=2", "engine.name=ctranslate2")]
    plan = planned(cli, tmp_path / "w", *options)
    work = by_name(plan)
    parameters, reward = plan["models"]["generator"]["parameters"], plan["models"]["reward"]["parameters"]
    assert work["r1 answer"]["memory"] == 2 * parameters  # a copy for each worker
    assert work["r1 score"]["memory"] == 4 * reward
    assert work["member pairs"]["memory"] == 16 * reward
    assert work["r1 train"]["memory"] == 16 * parameters + 8 * 32 * 40 * 640
    assert plan["total"]["memory"] == max(work["memory"] or 0 for work in plan["work"])
    parts = by_name(planned(cli, tmp_path / "w", *options, "--set=training.accumulate=4"))
    assert parts["r1 train"]["memory"] == 16 * parameters + 8 * 8 * 40 * 640
    adapters = ("--set=training.lora.rank=8", "--set=training.dtype=bfloat16", "--set=reward.lora.rank=8")
    work = by_name(planned(cli, tmp_path / "w", *options, *adapters))
    assert work["r1 train"]["memory"] == 2 * parameters + 8 * 32 * 40 * 640
    assert work["member pairs"]["memory"] == 4 * reward


def test_this_machine_has_memory() -> None:
    assert memory_of("cpu") > 1 << 28


# Warnings


def test_too_little_memory_is_reported_with_what_helps() -> None:
    work = [
        Work(name="member pairs", unit="steps", count=1, memory=10 << 30),
        Work(name="r1 answer", unit="texts", count=1, memory=1 << 30),
        Work(name="r1 train", unit="steps", count=1, memory=10 << 30),
        Work(name="r2 answer", unit="texts", count=1, memory=None),
    ]
    member, train = memory_short(work, 4 << 30)
    assert member.startswith("member pairs ")
    assert "reward.lora" in member
    assert train.startswith("r1 train ")
    assert "10.7 GB" in train
    assert "4.3 GB" in train
    assert "training.lora" in train


@pytest.mark.parametrize(
    ("setting", "key", "figures"),
    [
        ("budget.tokens=100000", "budget.tokens", ["100,000", "224,000"]),
        ("budget.tokens=300000", "budget.tokens", ["300,000", "832,000"]),
        ("training.max_length=39", "training.max_length", []),
        ("reward.max_length=39", "reward.max_length", []),
        ("instructions.max_tokens=450", "propose", ["512"]),
    ],
)
def test_limits_that_are_too_small_are_reported(cli: Cli, tmp_path: Path, setting: str, key: str, figures: list[str]) -> None:
    (warning,) = [warning for warning in planned(cli, tmp_path / "w", "--set", setting)["warnings"] if key in warning]
    assert all(figure in warning for figure in figures)


def test_a_budget_of_time_is_checked_against_finished_rounds(cli: Cli, turned: Path) -> None:
    assert any("budget.minutes" in warning for warning in planned(cli, turned, "--set", "budget.minutes=0.001")["warnings"])


def test_what_will_do_is_not_warned_of(cli: Cli, tmp_path: Path) -> None:
    assert planned(cli, tmp_path / "w", "--set", "budget.tokens=832000")["warnings"] == []


def hub(folder: Path, name: str, config: PretrainedConfig) -> None:
    """A hub's cache with a model's config and nothing else of it."""
    place = folder / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("abc")
    config.save_pretrained(place / "snapshots" / "abc")


def test_a_model_that_was_not_fetched_is_planned_by_its_config(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    hub(tmp_path / "cache", "someone/model", TRUE_SIZES["qwen3-0.6b"][0])
    before = files_of(tmp_path)
    sets = ("generator=someone/model", "prompt_style=chat", "engine.compute_type=bfloat16", "engine.name=transformers")
    plan = planned(cli, tmp_path / "w", *(f"--set={setting}" for setting in sets))
    assert plan["models"]["generator"]["parameters"] == 596_049_920
    assert by_name(plan)["r1 answer"]["memory"] == 2 * 596_049_920
    assert by_name(plan)["r1 train"]["memory"] > 16 * 596_049_920
    (warning,) = plan["warnings"]
    assert warning.startswith("generator ")
    assert files_of(tmp_path) == before


def test_data_on_the_hub_is_not_counted(cli: Cli, tmp_path: Path) -> None:
    plan = planned(cli, tmp_path / "w", "--set", "reward.members.form.data=someone/preferences")
    work = by_name(plan)
    unknown = [name for name in work if work[name]["count"] is None]
    assert unknown == ["joint", "member thumbs", "member pairs", "member form"]
    assert work["member form"]["seconds"] is None


@pytest.mark.parametrize(
    ("settings", "quoted"),
    [
        (["generator=someone/nothing"], "'someone/nothing'"),
        (["generator=/nowhere/model"], "/nowhere/model"),
        (["reward.base=someone/nothing"], "'someone/nothing'"),
        (["reward.layers=9"], "reward.layers = 9"),
        (["reward.members.form.data=gone.jsonl"], "gone.jsonl"),
        (["instructions.seeds=gone.jsonl"], "gone.jsonl"),
        (["evaluation.judge=nobody:judge"], "evaluation.judge"),
        (["engine.device=cuda"], "GPU"),
        (["prompt_style=chat"], "chat template"),
        (["sampling.n=0"], "sampling.n = 0"),
    ],
)
def test_invalid_input_is_an_error_and_nothing_is_written(cli: Cli, tmp_path: Path, settings: list[str], quoted: str) -> None:
    if settings == ["engine.device=cuda"] and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    outcome = cli("-w", tmp_path / "w", "round", "--dry-run", *(f"--set={setting}" for setting in settings))
    assert (outcome.code, outcome.out) == (1, "")
    assert quoted in outcome.error
    assert list(tmp_path.iterdir()) == []


def test_a_config_of_no_known_model_is_an_error(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    hub(tmp_path / "cache", "someone/model", TRUE_SIZES["gpt2"][0])
    (tmp_path / "cache/models--someone--model/snapshots/abc/config.json").write_text('{"model_type": "abacus"}')
    sets = ("--set", "generator=someone/model", "--set", "engine.name=transformers")
    outcome = cli("-w", tmp_path / "w", "round", "--dry-run", *sets)
    assert outcome.code == 1
    assert "someone--model" in outcome.error


def test_held_out_tasks_are_as_many_as_there_are(cli: Cli, turned: Path) -> None:
    assert by_name(planned(cli, turned))["r3 evaluate"]["count"] == HELD_OUT * 4
