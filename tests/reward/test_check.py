"""The self-test: each check is proved by breaking a model in the way it is there for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from flywheel.config import Config
from flywheel.core.assets import asset
from flywheel.errors import ModelError
from flywheel.instructions.prompts import Prompts
from flywheel.records import ModelKind
from flywheel.reward.check import Finding, check_reward_model, refuse_failures
from flywheel.reward.data import Pair, Row, Thumb
from flywheel.reward.model import RewardModel
from flywheel.reward.recipe import read_sets
from flywheel.reward.sources import Split
from flywheel.workspace import Workspace
from tests.reward.families import make_model


@pytest.fixture(scope="module")
def rows(small_config: Config) -> list[Row]:
    return [row for one in read_sets(small_config).values() for row in one.of(Split.VALIDATION)]


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """A copy of the reward model to break."""
    workspace = Workspace(built)
    (merged,) = workspace.store.models(ModelKind.REWARD)
    return Path(shutil.copytree(workspace.locate(merged), tmp_path / "merged"))


@pytest.fixture
def findings(rows: list[Row], prompts: Prompts) -> Callable[..., dict[str, Finding]]:
    answers = [row.answers[0] for row in rows[:: len(rows) // 30]]

    def find(folder: Path, broken: Callable[[RewardModel], RewardModel] = lambda one: one) -> dict[str, Finding]:
        found = check_reward_model(lambda: broken(RewardModel.load(folder, prompts, max_length=128)), answers, rows)
        return {one.name: one for one in found}

    return find


def failed(found: dict[str, Finding]) -> set[str]:
    return {name for name, one in found.items() if not one.ok}


def rewrite_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def rewrite_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_sound_model_passes(findings: Callable[..., dict[str, Finding]], folder: Path) -> None:
    found = findings(folder)
    assert not failed(found)
    assert {"float32", "eval mode", "padding side", "pad token", "batch invariance"} <= set(found)
    assert {"end token", "reload", "label order of thumbs", "label order of pairs"} <= set(found)


def test_a_missing_head(findings: Callable[..., dict[str, Finding]], folder: Path) -> None:
    def behead(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["score.weight"]

    rewrite_weights(folder, behead)
    found = findings(folder)
    assert failed(found) == {"no missing weights"}
    assert "score.weight" in found["no missing weights"].found


def test_a_causal_model_passed_as_reward_model(findings: Callable[..., dict[str, Finding]]) -> None:
    found = findings(asset("data/nano/generator"))
    assert failed(found) == {"no missing weights"}
    assert "LlamaForCausalLM" in found["no missing weights"].found


def test_not_a_number_in_the_weights(findings: Callable[..., dict[str, Finding]], folder: Path) -> None:
    def poison(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")

    rewrite_weights(folder, poison)
    found = findings(folder)
    assert "model.layers.0.mlp.up_proj.weight" in found["finite weights"].found
    assert not found["finite weights"].ok


def test_half_precision(folder: Path, rows: list[Row], prompts: Prompts) -> None:
    answers = [row.answers[0] for row in rows[:20]]
    found = check_reward_model(lambda: RewardModel.load(folder, prompts, max_length=128, dtype="bfloat16"), answers, rows[:50])
    assert "float32" in {one.name for one in found if not one.ok}


def test_dropout_left_on(findings: Callable[..., dict[str, Finding]], tmp_path: Path) -> None:
    from flywheel.reward.slice import build_base

    build_base(str(make_model("gpt2", tmp_path / "gpt2")), tmp_path / "base", layers=2, seed=0)

    def training(scorer: RewardModel) -> RewardModel:
        scorer.network.model.train()
        return scorer

    assert {"eval mode", "deterministic"} <= failed(findings(tmp_path / "base", training))


def test_a_tokenizer_that_pads_on_the_left(findings: Callable[..., dict[str, Finding]], folder: Path) -> None:
    rewrite_json(folder / "tokenizer_config.json", padding_side="left")
    assert failed(findings(folder)) == {"padding side"}


def test_the_end_token_as_pad_token(findings: Callable[..., dict[str, Finding]], folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rewrite_json(folder / "tokenizer_config.json", pad_token=tokenizer.eos_token)
    rewrite_json(folder / "config.json", pad_token_id=tokenizer.eos_token_id)

    def plain(scorer: RewardModel) -> RewardModel:
        return replace(scorer, shares_prompts=False)

    assert failed(findings(folder, plain)) == {"pad token", "end token"}


def test_another_pad_token_in_the_model_than_in_the_tokenizer(
    findings: Callable[..., dict[str, Finding]], folder: Path, rows: list[Row]
) -> None:
    # The model looks for the last token that is not its pad token, and finds one in the padding.
    rewrite_json(folder / "config.json", pad_token_id=5)

    def plain(scorer: RewardModel) -> RewardModel:
        return replace(scorer, shares_prompts=False)

    assert {"pad token", "batch invariance"} <= failed(findings(folder, plain))


def negate(tensors: dict[str, torch.Tensor]) -> None:
    tensors["score.weight"] = -tensors["score.weight"]


def test_swapped_labels(findings: Callable[..., dict[str, Finding]], folder: Path) -> None:
    rewrite_weights(folder, negate)
    assert failed(findings(folder)) == {"label order of thumbs", "label order of pairs"}


def test_a_model_that_gives_everything_the_same(findings: Callable[..., dict[str, Finding]], folder: Path) -> None:
    def flatten(tensors: dict[str, torch.Tensor]) -> None:
        tensors["score.weight"] = torch.zeros_like(tensors["score.weight"])

    rewrite_weights(folder, flatten)
    assert "scores differ" in failed(findings(folder))


def test_a_folder_that_changes_between_loads(findings: Callable[..., dict[str, Finding]], folder: Path) -> None:
    loads = 0

    def other(scorer: RewardModel) -> RewardModel:
        nonlocal loads
        loads += 1
        scorer.network.model.score.weight.data += loads
        return scorer

    assert "reload" in failed(findings(folder, other))


def test_failures_are_one_line_that_says_what_they_mean(findings: Callable[..., dict[str, Finding]], folder: Path) -> None:
    rewrite_weights(folder, negate)
    with pytest.raises(ModelError) as error:
        refuse_failures(folder, list(findings(folder).values()))
    assert "merged" in error.value.message
    assert "label order of thumbs: AUC 0." in error.value.message
    assert "label order of pairs: AUC 0." in error.value.message
    assert "swapped" in error.value.hint
    assert "\n" not in str(error.value)


def test_rows_of_one_label_say_nothing_of_the_order(folder: Path, rows: list[Row], prompts: Prompts) -> None:
    likes = [replace(row, liked=True) for row in rows if isinstance(row, Thumb)]
    found = check_reward_model(lambda: RewardModel.load(folder, prompts), [likes[0].answer, likes[1].answer], likes)
    assert not [one for one in found if one.name.startswith("label order")]
    assert not any(isinstance(row, Pair) for row in likes)


def test_a_build_refuses_a_model_that_fails(built: Path, small_config: Config, tmp_path: Path) -> None:
    # Swapped columns: what people disliked is named as chosen.
    from flywheel.core.progress import Silent
    from flywheel.reward.build import Lab
    from tests.conftest import copy

    workspace = Workspace(copy(built, tmp_path))
    reward = small_config.reward
    swapped = {
        name: member.model_copy(update={"columns": {"chosen": "rejected", "rejected": "chosen"}}) if name == "pairs" else member
        for name, member in reward.members.items()
    }
    config = small_config.model_copy(update={"reward": reward.model_copy(update={"members": swapped})})
    lab = Lab(config, workspace, Silent())
    (merged,) = workspace.store.models(ModelKind.REWARD)
    with pytest.raises(ModelError, match="label order of pairs"):
        lab.check(workspace.locate(merged))
