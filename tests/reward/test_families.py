"""Any base: every family is sliced, trained, merged and reloaded, and scores a text the same alone and in a batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForSequenceClassification

from flywheel.config import MergeConfig
from flywheel.core.assets import asset
from flywheel.core.quiet import silence
from flywheel.errors import ModelError
from flywheel.instructions.prompts import Prompts
from flywheel.nano.tasks import held_out_tasks
from flywheel.nano.world import right_output
from flywheel.reward.data import PreferenceSet, separate
from flywheel.reward.members import Job, train_member
from flywheel.reward.merge import check_mergeable, merge_models
from flywheel.reward.model import RewardModel
from flywheel.reward.reading import read_set
from flywheel.reward.recipe import TrainingSettings
from flywheel.reward.slice import build_base
from flywheel.reward.sources import read_source
from flywheel.reward.text import Answer
from tests.reward.families import ENCODERS, FAMILIES, make_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sets(small_config: object) -> dict[str, PreferenceSet]:
    found = {}
    for name, member in small_config.reward.members.items():  # type: ignore[attr-defined]
        found[name] = read_set(read_source([Path(member.data)]), member)
    return separate(found)


@pytest.fixture(scope="module")
def answers() -> list[Answer]:
    tasks = held_out_tasks()[:6]
    right = [Answer(task=task, output=str(right_output(task))) for task in tasks for _ in range(2)]
    return [*right, *(Answer(task=task, output="no idea at all, sorry") for task in tasks)]


@pytest.mark.parametrize("family", FAMILIES)
def test_slice_train_merge_reload(
    family: str, sets: dict[str, PreferenceSet], answers: list[Answer], prompts: Prompts, tmp_path: Path
) -> None:
    silence()
    source = make_model(family, tmp_path / "source")
    sliced = build_base(str(source), tmp_path / "base", layers=2, seed=0)
    assert (sliced.layers_before, sliced.layers) == (4, 2)
    assert sliced.parameters < sliced.parameters_before
    loaded, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", output_loading_info=True)
    assert loaded.config.num_hidden_layers == 2
    assert not report["missing_keys"]
    assert sum(one.numel() for one in loaded.parameters()) == sliced.parameters

    settings = TrainingSettings(
        epochs=1, learning_rate=1e-3, batch_size=4, max_length=128, lora=None,
        args={"max_steps": 2}, own_args={}, checkpoint_minutes=99,
    )  # fmt: skip
    for name, one in sets.items():
        (tmp_path / name).mkdir()
        job = Job(
            base=tmp_path / "base", folder=tmp_path / name, data=one, settings=settings, prompts=asset("prompts"), seed=1,
            checkpoints=tmp_path / "training",
        )  # fmt: skip
        trained = train_member(job, lambda done, total: None)
        assert {point.step for point in trained.curve} == {1, 2}

    folders = [tmp_path / name for name in sets]
    check_mergeable([tmp_path / "base", *folders])
    merge_models(tmp_path / "base", dict.fromkeys(folders, 0.5), MergeConfig(), tmp_path / "merged", seed=0)
    scorer = RewardModel.load(tmp_path / "merged", prompts, max_length=128)
    assert (scorer.shares_prompts) == (family not in ENCODERS)
    together = scorer.score_answers(answers)
    assert len(set(together)) > len(answers) // 2
    assert together == pytest.approx([scorer.score_answers([answer])[0] for answer in answers], abs=1e-4)
    assert together == RewardModel.load(tmp_path / "merged", prompts, max_length=128).score_answers(answers)


def test_a_slice_is_what_the_whole_model_computes_up_to_there(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel

    for family in ("llama", "qwen3"):
        source = make_model(family, tmp_path / family)
        build_base(str(source), tmp_path / f"{family}-base", layers=2, seed=0)
        ids = torch.tensor([[5, 6, 7, 8]])
        whole = AutoModel.from_pretrained(source)
        kept = AutoModelForSequenceClassification.from_pretrained(tmp_path / f"{family}-base").base_model
        with torch.inference_mode():
            states = whole.eval()(input_ids=ids, output_hidden_states=True).hidden_states
            last = kept.eval()(input_ids=ids).last_hidden_state
            assert torch.allclose(whole.norm(states[2]), last, atol=1e-5)


def test_too_many_layers_are_refused(tmp_path: Path) -> None:
    source = make_model("gpt2", tmp_path / "gpt2")
    with pytest.raises(ModelError) as error:
        build_base(str(source), tmp_path / "base", layers=5, seed=0)
    assert "5 layers" in error.value.message
    assert "4" in error.value.hint
    assert not (tmp_path / "base").exists()


def test_a_model_without_one_of_its_layers_is_refused(tmp_path: Path) -> None:
    source = make_model("qwen2", tmp_path / "qwen2")
    config = json.loads((source / "config.json").read_text())
    config |= {"num_hidden_layers": 6, "layer_types": ["full_attention"] * 6, "max_window_layers": 6}
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError) as error:
        build_base(str(source), tmp_path / "base", layers=5, seed=0)
    assert "layers.4." in error.value.message


def test_a_base_with_a_head_of_two_labels_is_refused(tmp_path: Path) -> None:
    config = FAMILIES["gpt2"].from_dict(FAMILIES["gpt2"].to_dict() | {"num_labels": 2})
    source = make_model("gpt2", tmp_path / "gpt2")
    AutoModelForSequenceClassification.from_config(config).save_pretrained(source)
    assert AutoConfig.from_pretrained(source).num_labels == 2
    with pytest.raises(ModelError, match="2 labels"):
        build_base(str(source), tmp_path / "base", layers=2, seed=0)
