"""Members: trained whole or by adapters, with any argument of their trainer, going on where they were killed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from flywheel.config import Config, LoraConfig
from flywheel.core.files import digest_model
from flywheel.errors import ConfigError, DataError, ModelError
from flywheel.instructions.prompts import Prompts
from flywheel.records import ModelKind
from flywheel.reward.data import Pair, PreferenceSet, Thumb, pool
from flywheel.reward.members import Trained, train_member
from flywheel.reward.model import RewardModel
from flywheel.reward.recipe import TrainingSettings, read_sets
from flywheel.reward.sources import Split
from flywheel.workspace import Workspace

pytestmark = pytest.mark.slow

SETTINGS = TrainingSettings(
    epochs=1,
    learning_rate=2e-4,
    batch_size=8,
    max_length=128,
    lora=None,
    args={"max_steps": 6},
    own_args={},
    checkpoint_minutes=99,
)


@pytest.fixture(scope="module")
def sets(small_config: Config) -> dict[str, PreferenceSet]:
    return read_sets(small_config)


@pytest.fixture(scope="module")
def base(built: Path) -> Path:
    workspace = Workspace(built)
    return workspace.locate(workspace.store.models(ModelKind.BASE)[0])


def train(base: Path, folder: Path, data: PreferenceSet, prompts: Prompts, advance: Any = None, **changes: Any) -> Trained:
    folder.mkdir(exist_ok=True, parents=True)
    return train_member(
        base, folder, data, replace(SETTINGS, **changes), prompts,
        seed=3, advance=advance or (lambda done, total: None), checkpoints=folder.with_name(folder.name + ".training"),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["thumbs", "pairs"])
def test_any_argument_of_the_trainer_passes_through(
    name: str, base: Path, sets: dict[str, PreferenceSet], prompts: Prompts, tmp_path: Path
) -> None:
    arguments = {"max_steps": 4, "logging_steps": 1, "lr_scheduler_type": "constant", "warmup_steps": 0}
    trained = train(base, tmp_path / "m", sets[name], prompts, args=arguments | {"center_rewards_coefficient": 0.01})
    rates = [point.value for point in trained.curve if point.name == "learning_rate"]
    assert rates == [2e-4] * 4
    own = train(base, tmp_path / "n", sets[name], prompts, own_args={"max_steps": 2, "logging_steps": 1})
    assert {point.step for point in own.curve} == {1, 2}


def test_validation_while_training_is_in_the_curve(
    base: Path, sets: dict[str, PreferenceSet], prompts: Prompts, tmp_path: Path
) -> None:
    arguments = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2}
    for name in ("thumbs", "pairs"):
        trained = train(base, tmp_path / name, sets[name], prompts, args=arguments)
        assert [point.step for point in trained.curve if point.name == "eval_loss"] == [2, 4]


@pytest.mark.parametrize("arguments", [{"learning_rat": 1}, {"center_rewards": 1.0}])
def test_an_argument_that_no_trainer_knows_is_refused(
    arguments: dict[str, Any], base: Path, sets: dict[str, PreferenceSet], prompts: Prompts, tmp_path: Path
) -> None:
    for name in ("thumbs", "pairs"):
        for where in ("args", "own_args"):
            with pytest.raises(ConfigError, match=next(iter(arguments))):
                train(base, tmp_path / "m", sets[name], prompts, **{where: arguments})


def test_adapters_are_merged_into_a_member_of_the_same_shape(
    base: Path, sets: dict[str, PreferenceSet], prompts: Prompts, tmp_path: Path
) -> None:
    for name in ("thumbs", "pairs"):
        train(base, tmp_path / name, sets[name], prompts, lora=LoraConfig(rank=4), learning_rate=1e-2)
        before, after = load_file(base / "model.safetensors"), load_file(tmp_path / name / "model.safetensors")
        assert {key: value.shape for key, value in before.items()} == {key: value.shape for key, value in after.items()}
        changed = {key for key in before if not before[key].equal(after[key])}
        assert "score.weight" in changed
        assert any("q_proj" in key for key in changed)
        assert not any("norm" in key or "embed" in key for key in changed)
        assert json.loads((tmp_path / name / "config.json").read_text())["use_cache"] is True
        RewardModel.load(tmp_path / name, prompts)


def test_adapters_on_modules_that_are_not_there_are_refused(
    base: Path, sets: dict[str, PreferenceSet], prompts: Prompts, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"reward\.lora"):
        train(base, tmp_path / "m", sets["pairs"], prompts, lora=LoraConfig(targets=("nowhere",)))


class Killed(Exception):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("name", ["thumbs", "pairs"])
def test_a_killed_training_goes_on_and_ends_with_the_same_member(
    name: str, base: Path, sets: dict[str, PreferenceSet], prompts: Prompts, tmp_path: Path
) -> None:
    def kill(done: int, total: int) -> None:
        if done == 4:
            raise Killed

    steps = []
    settings = {"checkpoint_minutes": 1e-9, "args": {"max_steps": 6, "logging_steps": 1}}
    undisturbed = train(base, tmp_path / "whole", sets[name], prompts, **settings)
    with pytest.raises(Killed):
        train(base, tmp_path / "member", sets[name], prompts, advance=kill, **settings)
    checkpoints = tmp_path / "member.training"
    (checkpoints / "checkpoint-5").mkdir()  # one that a kill left half-written
    resumed = train(base, tmp_path / "member", sets[name], prompts, advance=lambda done, total: steps.append(done), **settings)
    assert steps == [4, 5, 6]
    assert digest_model(tmp_path / "member") == digest_model(tmp_path / "whole")
    assert [point.step for point in resumed.curve if point.name == "loss"] == [1, 2, 3, 4, 5, 6]
    assert [p for p in resumed.curve if p.name == "loss"] == [p for p in undisturbed.curve if p.name == "loss"]
    assert not checkpoints.exists()


def test_rows_over_the_length_are_dropped_and_counted(
    base: Path, sets: dict[str, PreferenceSet], prompts: Prompts, tmp_path: Path
) -> None:
    data = sets["pairs"]
    trained = train(base, tmp_path / "m", data, prompts, max_length=32)
    assert trained.too_long > 0
    assert trained.rows + trained.too_long == len(data.of(Split.TRAIN))
    with pytest.raises(DataError, match=r"reward\.max_length \(4\)"):
        train(base, tmp_path / "n", data, prompts, max_length=4)


def test_a_loss_that_is_no_number_is_refused(
    base: Path, sets: dict[str, PreferenceSet], prompts: Prompts, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import save_file

    broken = Path(shutil.copytree(base, tmp_path / "base"))
    tensors = load_file(broken / "model.safetensors")
    tensors["score.weight"] = torch.full_like(tensors["score.weight"], float("nan"))
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError) as error:
        train(broken, tmp_path / "m", sets["thumbs"], prompts, args={"max_steps": 2, "logging_nan_inf_filter": False})
    assert "nan" in error.value.message
    assert "reward.learning_rate" in error.value.hint


def test_joint_training_pools_pairs_and_pairs_up_thumbs(sets: dict[str, PreferenceSet]) -> None:
    pooled = pool(sets, seed=0)
    thumbs = sets["thumbs"].of(Split.TRAIN)
    likes = {row.answer for row in thumbs if isinstance(row, Thumb) and row.liked}
    dislikes = {row.answer for row in thumbs if isinstance(row, Thumb) and not row.liked}
    others = len(sets["pairs"].of(Split.TRAIN)) + len(sets["form"].of(Split.TRAIN))
    assert len(pooled.rows) == others + min(len(likes), len(dislikes))
    known = {row for name in ("pairs", "form") for row in sets[name].of(Split.TRAIN)}
    made = [row for row in pooled.rows if row not in known]
    assert all(isinstance(row, Pair) and row.chosen in likes and row.rejected in dislikes for row in made)


def test_learning_curves_are_in_the_store(built: Path) -> None:
    store = Workspace(built).store
    for model in [*store.models(ModelKind.MEMBER), store.models(ModelKind.BASE)[1]]:
        curve = store.learning_curve(model.model_id)
        losses = [point for point in curve if point.name == "loss"]
        assert len(losses) > 3
        assert [point.step for point in losses] == sorted(point.step for point in losses)
        assert {"loss", "learning_rate", "grad_norm"} <= {point.name for point in curve}
