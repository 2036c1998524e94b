"""The dry run: what it counts is what a round does, what it sums is right, and it leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import huggingface_hub
import pytest
import torch
from peft import LoraConfig as Peft
from peft import get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from flywheel.config import TrainingConfig
from flywheel.core.assets import asset
from flywheel.estimate import reward as lab
from flywheel.estimate.activations import kept_by_generator
from flywheel.estimate.doubts import memory_short
from flywheel.estimate.machine import Machine, measure
from flywheel.estimate.plan import Work, steps_of
from flywheel.estimate.roofline import (
    Memory,
    Training,
    Writing,
    reading_seconds,
    training_memory,
    training_seconds,
    writing_memory,
    writing_seconds,
)
from flywheel.estimate.sizes import Shape, reward_shape_of, shape_of
from flywheel.reward import build, check
from tests.conftest import HELD_OUT, Cli, copy
from tests.test_cli import refused
from tests.test_loop import rows

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
"""Models of the presets, and how many parameters their makers say they have."""


def planned(cli: Cli, workspace: Path, *options: str) -> dict[str, Any]:
    told = cli("-w", workspace, "round", "--dry-run", "--json", *options)
    assert told.code == 0, told.err
    found: dict[str, Any] = json.loads(told.out, parse_constant=lambda name: pytest.fail(name))
    return found


def by_name(plan: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in plan["work"]}


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


# What is counted is what a round does


def test_a_round_does_what_was_planned(cli: Cli, small: list[str], turned: Path, tmp_path: Path) -> None:
    plan = planned(cli, tmp_path / "w", *(f"--set={one}" for one in small))
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
    assert work["r1 train"]["count"] == steps_of(80 + 20, 32, 2, {})
    assert int(trained) <= 100


def test_the_reward_model_is_built_in_the_steps_that_were_planned(
    cli: Cli, small: list[str], turned: Path, tmp_path: Path
) -> None:
    work = by_name(planned(cli, tmp_path / "w", *(f"--set={one}" for one in small)))
    made = rows(
        turned, "SELECT name, (facts->>'rows')::INT, kind FROM models WHERE kind = 'member' OR name = 'joint' ORDER BY name"
    )
    for name, count, kind in made:
        assert work[name if kind == "base" else f"member {name}"]["count"] == steps_of(count, 48, 0.5, {}), name


def test_finished_rounds_say_how_long_the_next_one_takes(cli: Cli, turned: Path) -> None:
    plan = planned(cli, turned)
    work = by_name(plan)
    assert plan["round"] == "r3"
    assert plan["done"] == ["reward model"]
    assert list(work) == [f"r3 {stage}" for stage in ("propose", "answer", "score", "select", "judge", "train", "evaluate")]
    assert {one["basis"] for one in plan["work"]} == {"r2"}
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
    # Other settings, other times: what they were measured for no longer holds.
    other = by_name(planned(cli, turned, "--set", "sampling.max_tokens=16"))
    assert {name: one["basis"] for name, one in other.items()} == {
        "r3 propose": "r2", "r3 answer": "roofline", "r3 score": "r2", "r3 select": "r2", "r3 judge": None,
        "r3 train": "r2", "r3 evaluate": "roofline",
    }  # fmt: skip


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
    refused(cli("-w", folder, "round", "--dry-run", "--n", "3"), "r2 was begun with sampling.n = 4 (now 3)")
    assert list(by_name(planned(cli, folder, "--n", "3", "--restart")))[:2] == ["r2 propose", "r2 answer"]


# It leaves nothing behind


def test_nothing_is_written(cli: Cli, turned: Path, tmp_path: Path) -> None:
    assert cli("-w", tmp_path / "new" / "workspace", "round", "--dry-run").code == 0
    assert list(tmp_path.iterdir()) == []
    folder = copy(turned, tmp_path)
    before = files_of(tmp_path)
    assert cli("-w", folder, "round", "--dry-run", "--set", "instructions.tasks=7").code == 0
    assert files_of(tmp_path) == before


def test_a_plan_is_told_in_words(cli: Cli, tmp_path: Path) -> None:
    told = cli("-w", tmp_path / "w", "round", "--dry-run", "--set", "prices.hour=2")
    assert told.code == 0
    lines = told.out.splitlines()
    assert lines[:2] == [
        "dry run of r1: nothing is changed",
        "engine: ctranslate2 (no GPU, and CTranslate2 is fastest on a CPU)",
    ]
    assert "generator: llama, 4 layers, 935,040 parameters" in lines
    assert "reward: llama, 3 layers, 721,920 parameters" in lines
    assert next(line for line in lines if line.startswith("r1 answer")).split()[2:4] == ["2,000", "candidates"]
    assert "cost" in next(line for line in lines if line.startswith("work"))
    for word in ("exact:", "upper bound:", "estimates:"):
        assert any(word in line for line in lines), word
    assert told.err == ""


# Sizes


def test_nano_has_as_many_parameters_as_its_weights() -> None:
    config = AutoConfig.from_pretrained(NANO)
    weights = AutoModelForCausalLM.from_pretrained(NANO)
    shape = shape_of(config)
    assert shape.parameters == sum(one.numel() for one in weights.parameters()) == 935_040
    assert (shape.layers, shape.width, shape.vocabulary, shape.widest) == (4, 128, 640, 384)
    assert shape.head == 640 * 128
    assert shape.looked_up == 0
    assert shape.cached == 2 * 4 * 128
    memory = training_memory(training(shape), shape)
    assert memory == Memory(weights=4 * 935_040, activations=4 * (10 * 640 + 640 * 128), training=12 * 935_040)


def test_the_reward_model_has_the_layers_and_one_head() -> None:
    config = AutoConfig.from_pretrained(NANO)
    shape = reward_shape_of(config, 3)
    config.num_hidden_layers, config.num_labels = 3, 1
    real = AutoModelForSequenceClassification.from_config(config)
    assert shape.parameters == sum(one.numel() for one in real.parameters()) == 721_920
    assert shape.looked_up == 640 * 128
    assert shape.layers == 3


@pytest.mark.parametrize("name", TRUE_SIZES)
def test_models_of_true_size_are_counted_without_their_weights(name: str) -> None:
    config, parameters = TRUE_SIZES[name]
    assert shape_of(config).parameters == parameters


@pytest.mark.parametrize("name", ["gpt2", "qwen3-0.6b"])
def test_adapters_have_as_many_parameters_as_peft_gives_them(name: str) -> None:
    config, _ = TRUE_SIZES[name]
    with torch.device("meta"):
        model = get_peft_model(AutoModelForCausalLM.from_config(config), Peft(r=8, target_modules="all-linear"))
    adapters = sum(one.numel() for one in model.parameters() if one.requires_grad)
    assert 8 * shape_of(config).edges == adapters


@pytest.mark.parametrize("texts", [1, 6])
def test_activations_are_those_that_a_real_training_keeps(texts: int) -> None:
    kept: dict[int, int] = {}
    model = AutoModelForCausalLM.from_pretrained(NANO).train()
    weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
    held = []

    def save(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor.untyped_storage())
        kept[held[-1].data_ptr()] = held[-1].nbytes()
        return tensor

    ids, mask = torch.zeros(texts, 50, dtype=torch.long), torch.ones(texts, 50)
    mask[0, -5:] = 0  # padding, as batches have it
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        model(input_ids=ids, attention_mask=mask, labels=ids, use_cache=False)
    really = sum(size for place, size in kept.items() if place not in weights)
    assert count(AutoConfig.from_pretrained(NANO), TrainingConfig(), texts=texts, length=50) == really


def count(config: PretrainedConfig, training: TrainingConfig, *, texts: int, length: int) -> int | None:
    return kept_by_generator(config, training, texts=texts, length=length, device="cpu", trust_remote_code=False)


def test_what_saves_memory_is_seen_to_save_it() -> None:
    config, _ = TRUE_SIZES["smollm2-135m"]
    plain = count(config, TrainingConfig(), texts=4, length=200)
    halves = count(config, TrainingConfig(batch_size=2), texts=2, length=200)
    checkpointed = count(config, TrainingConfig(gradient_checkpointing=True), texts=4, length=200)
    adapters = count(config, TrainingConfig.model_validate({"dtype": "bfloat16", "lora": {}}), texts=4, length=200)
    assert plain is not None
    assert halves == pytest.approx(plain / 2, rel=0.01)
    assert checkpointed is not None
    assert checkpointed < plain / 4
    assert adapters is not None
    assert adapters < 0.7 * plain


def test_a_model_that_cannot_be_followed_is_said_to_be_uncounted() -> None:
    # Which expert a token goes to depends on numbers, and there are none.
    config = Qwen3MoeConfig(num_hidden_layers=1, hidden_size=32, intermediate_size=32, moe_intermediate_size=16, vocab_size=64)
    assert count(config, TrainingConfig(), texts=1, length=8) is None


def test_constants_of_the_lab_are_those_of_the_lab() -> None:
    assert lab.REFERENCE_TEXTS == build.REFERENCE_TEXTS
    assert lab.ROWS == check.ROWS


# Times, by hand

SHAPE = Shape(
    kind="toy", parameters=1_000, looked_up=100, head=200, layers=2, width=10, widest=40, edges=50, vocabulary=20, cached=8,
    positions=None,
)  # fmt: skip
MACHINE = Machine(device="cpu", name="toy", memory=1 << 20, operations={"float32": 1e6, "bfloat16": 2e6}, bandwidth=1e6)


def training(shape: Shape, **changes: Any) -> Training:
    values: dict[str, Any] = {
        "steps": 1, "step_tokens": 10.0, "length": 0.0, "part_tokens": 10, "activations": 0, "trained": shape.parameters,
    }  # fmt: skip
    return Training(**values | changes)


def test_writing_takes_as_long_as_the_slower_of_computing_and_moving() -> None:
    work = Writing(prompts=3, n=4, prompt_tokens=5, tokens=6, together=6)
    fast = Machine(device="cpu", name="toy", memory=1, operations={"float32": 1e6}, bandwidth=1e30)
    # Read once each: 700 parameters of the body, and attention over half a prompt on average. Then 72 tokens with the head.
    read = 3 * 5 * (2 * 700 + 4 * 2 * 10 * 2.5)
    written = 12 * 6 * (2 * 900 + 4 * 2 * 10 * 8)
    assert writing_seconds(work, SHAPE, fast, "float32") == pytest.approx((read + written) / 1e6)
    slow = Machine(device="cpu", name="toy", memory=1, operations={"float32": 1e30}, bandwidth=1e6)
    # Two batches of six tokens each read the weights, every token its cache.
    moved = 4 * (2 * 6 * 900 + 12 * 6 * 8 * 8)
    assert writing_seconds(work, SHAPE, slow, "float32") == pytest.approx(moved / 1e6)
    assert writing_seconds(work, SHAPE, Machine(
        device="cpu", name="toy", memory=1, operations={"bfloat16": 1e30}, bandwidth=1e6
    ), "bfloat16") == pytest.approx(moved / 2e6)  # fmt: skip


def test_writing_keeps_weights_keys_and_values() -> None:
    work = Writing(prompts=100, n=1, prompt_tokens=5, tokens=6, together=6, batches_at_once=2)
    memory = writing_memory(work, SHAPE, "bfloat16", longest=9)
    assert memory == Memory(weights=2 * 1_000 * 2, cache=12 * 15 * 8 * 2, activations=12 * 20 * 4 * 2)
    assert memory.total == 4_000 + 2_880 + 1_920


def test_training_takes_three_times_reading_or_twice_below_adapters() -> None:
    whole = training_seconds(training(SHAPE), SHAPE, MACHINE)
    assert whole == pytest.approx(10 * 3 * 2 * 900 / 1e6)
    assert training_seconds(training(SHAPE, trained=50), SHAPE, MACHINE) == pytest.approx(whole * 2 / 3)
    assert training_seconds(training(SHAPE, computed_twice=True), SHAPE, MACHINE) == pytest.approx(whole * 4 / 3)
    assert training_seconds(training(SHAPE, kind="bfloat16"), SHAPE, MACHINE) == pytest.approx(whole / 2)
    assert training_seconds(training(SHAPE, processes=4, steps=8), SHAPE, MACHINE) == pytest.approx(whole * 2)
    assert training_seconds(training(SHAPE, activations=70), SHAPE, MACHINE) == pytest.approx(whole + 10 * 7 * 4 / 1e6)
    below = training_memory(training(SHAPE, trained=50), SHAPE, frozen="bfloat16")
    assert below == Memory(weights=2_000 + 200, activations=4 * 10 * 20, training=600)


def test_reading_takes_no_head() -> None:
    reward = Shape(
        kind="toy", parameters=1_000, looked_up=100, head=0, layers=2, width=10, widest=40, edges=50, vocabulary=20, cached=8,
        positions=None,
    )  # fmt: skip
    operations, moved = 10 * (2 * 900 + 4 * 2 * 10 * 3), 10 * 2 * 40 * 4 * 2
    assert reading_seconds(reward, MACHINE, tokens=10, context=6) == pytest.approx((operations + moved) / 1e6)


def test_the_machine_is_measured_in_under_a_second() -> None:
    machine = measure("cpu", ["float32", "float32"])
    assert list(machine.operations) == ["float32"]
    assert 1e8 < machine.operations["float32"] < 1e15
    assert 1e8 < machine.bandwidth < 1e14
    assert machine.memory > 1 << 28


# What will not do


def test_too_little_memory_is_told_with_what_helps() -> None:
    fits, short = (Memory(weights=1 << 30, training=more << 30) for more in (0, 9))
    work = [
        Work(name="member pairs", unit="steps", count=1, memory=short, available=4 << 30),
        Work(name="r1 answer", unit="texts", count=1, memory=fits, available=4 << 30),
        Work(name="r1 train", unit="steps", count=1, memory=short, available=4 << 30),
        Work(name="r2 answer", unit="texts", count=1, memory=None),
    ]
    told = list(memory_short(work))
    assert [one.split(" needs")[0] for one in told] == ["member pairs", "r1 train"]
    assert "needs about 10.0 GiB, and there are 4.0; set training.lora" in told[1]
    assert "reward.lora" in told[0]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("budget.tokens=100000", "budget.tokens = 100,000 will be spent before the end (224,000 estimated)"),
        ("budget.tokens=300000", "budget.tokens = 300,000 may be spent before the end (at most 832,000 are generated)"),
        ("budget.minutes=0.01", "budget.minutes = 0.01 will be spent"),
        ("training.max_length=100", "training.max_length = 100 drops the longest"),
        ("reward.max_length=40", "over 40 they lose their beginning"),
        ("instructions.max_tokens=450", "are more than the 512 that the model reads"),
    ],
)
def test_what_will_not_do_is_told_before_it_is_begun(cli: Cli, tmp_path: Path, setting: str, said: str) -> None:
    plan = planned(cli, tmp_path / "w", "--set", setting)
    assert any(said in one for one in plan["warnings"]), plan["warnings"]


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
    plan = planned(cli, tmp_path / "w", *(f"--set={one}" for one in sets))
    assert plan["models"]["generator"]["parameters"] == 596_049_920
    assert by_name(plan)["r1 answer"]["memory"]["weights"] == 2 * 596_049_920
    assert by_name(plan)["r1 train"]["memory"]["training"] == 12 * 596_049_920
    (note,) = plan["notes"]
    assert note.startswith("generator someone/model is not on this machine: its config.json was read")
    assert files_of(tmp_path) == before


def test_data_that_was_not_fetched_is_not_counted(cli: Cli, tmp_path: Path) -> None:
    plan = planned(cli, tmp_path / "w", "--set", "reward.members.form.data=someone/preferences")
    work = by_name(plan)
    assert [one for one in work if work[one]["count"] is None] == ["joint", "member form", "reward accuracies"]
    assert work["member pairs"]["count"] > 0
    assert work["member form"]["seconds"] is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["generator=someone/nothing"], "'someone/nothing' is neither a folder nor to be had from the hub"),
        (["generator=/nowhere/model"], "no model folder at /nowhere/model"),
        (["reward.base=someone/nothing"], "'someone/nothing' is neither a folder nor to be had from the hub"),
        (["reward.layers=9"], "reward.layers is 9, but the base has 4; ask for at most that"),
        (["reward.members.form.data=gone.jsonl"], "gone.jsonl; mend its path in the config"),
        (["instructions.seeds=gone.jsonl"], "no file"),
        (["evaluation.judge=nobody:judge"], "evaluation.judge"),
        (["engine.device=cuda"], "torch sees no GPU"),
        (["prompt_style=chat"], "has no chat template"),
        (["sampling.n=0"], "sampling.n: input should be greater than or equal to 1, got 0"),
    ],
)
def test_bad_input_is_one_line(cli: Cli, tmp_path: Path, settings: list[str], said: str) -> None:
    if settings == ["engine.device=cuda"] and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    refused(cli("-w", tmp_path / "w", "round", "--dry-run", *(f"--set={one}" for one in settings)), said)
    assert list(tmp_path.iterdir()) == []


def test_a_config_of_no_known_model_is_one_line(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    hub(tmp_path / "cache", "someone/model", TRUE_SIZES["gpt2"][0])
    (tmp_path / "cache/models--someone--model/snapshots/abc/config.json").write_text('{"model_type": "abacus"}')
    sets = ("--set", "generator=someone/model", "--set", "engine.name=transformers")
    refused(cli("-w", tmp_path / "w", "round", "--dry-run", *sets), "of no model that transformers knows")


def test_held_out_tasks_are_as_many_as_there_are(cli: Cli, turned: Path) -> None:
    assert by_name(planned(cli, turned))["r3 evaluate"]["count"] == HELD_OUT * 4
