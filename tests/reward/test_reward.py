"""The reward model: what breaks such models is tried here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from flywheel.config import Config, MergeConfig
from flywheel.core.files import digest_model
from flywheel.errors import ModelError
from flywheel.instructions.prompts import Prompts
from flywheel.nano.tasks import held_out_tasks
from flywheel.nano.world import right_output
from flywheel.records import ModelKind
from flywheel.reward.merge import merge_models
from flywheel.reward.model import RewardModel, load_scorer
from flywheel.reward.text import Answer
from flywheel.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(built: Path) -> Workspace:
    return Workspace(built)


@pytest.fixture(scope="module")
def scorer(workspace: Workspace, small_config: Config) -> RewardModel:
    return load_scorer(workspace.locate(workspace.store.models(ModelKind.REWARD)[0]), small_config)


@pytest.fixture(scope="module")
def answers() -> list[Answer]:
    tasks = held_out_tasks()[:40]
    return [Answer(task=task, output=str(right_output(task))) for task in tasks]


def test_all_models_are_recorded_with_their_accuracy_on_every_set(workspace: Workspace) -> None:
    sliced, joint = workspace.store.models(ModelKind.BASE)
    assert (sliced.name, joint.name, joint.parent) == ("3-layers", "joint", sliced.model_id)
    assert sliced.facts.sliced is not None
    assert 700_000 < sliced.facts.sliced.parameters < sliced.facts.sliced.parameters_before
    members = workspace.store.models(ModelKind.MEMBER)
    assert [model.name for model in members] == ["thumbs", "pairs", "form"]
    for model in [*members, *workspace.store.models(ModelKind.REWARD)]:
        assert set(model.facts.accuracy) == {"thumbs", "pairs", "form"}
        assert all(0.3 < figure < 1 for figure in model.facts.accuracy.values())
        assert model.digest == digest_model(workspace.locate(model))


def test_members_and_merge_share_architecture_and_have_one_label(workspace: Workspace) -> None:
    for kind in (ModelKind.BASE, ModelKind.MEMBER, ModelKind.REWARD):
        for model in workspace.store.models(kind):
            loaded, report = AutoModelForSequenceClassification.from_pretrained(
                workspace.locate(model), output_loading_info=True
            )
            assert loaded.config.num_hidden_layers == 3
            assert loaded.score.weight.shape == (1, 128)
            assert not report["missing_keys"]


def test_the_merge_lies_between_the_members_and_is_none_of_them(workspace: Workspace) -> None:
    def weights(kind: ModelKind) -> list[torch.Tensor]:
        folders = [workspace.locate(model) for model in workspace.store.models(kind)]
        return [AutoModelForSequenceClassification.from_pretrained(folder).score.weight for folder in folders]

    (merged,), (_, base), members = weights(ModelKind.REWARD), weights(ModelKind.BASE), weights(ModelKind.MEMBER)
    moved = [(member - base).norm() for member in members]
    assert 0 < (merged - base).norm() < sum(moved)
    assert all((merged - member).norm() > 0 for member in members)


def test_a_text_scores_the_same_alone_and_in_any_batch(scorer: RewardModel, answers: list[Answer]) -> None:
    alone = [scorer.score_answers([answer])[0] for answer in answers]
    assert scorer.score_answers(answers) == pytest.approx(alone, abs=1e-4)
    assert scorer.score_answers(answers[::-1])[::-1] == pytest.approx(alone, abs=1e-4)


def test_scoring_repeats_across_reloads(
    workspace: Workspace, small_config: Config, scorer: RewardModel, answers: list[Answer]
) -> None:
    again = load_scorer(workspace.locate(workspace.store.models(ModelKind.REWARD)[0]), small_config)
    assert again.score_answers(answers) == scorer.score_answers(answers)


def test_the_end_of_a_text_is_visible(scorer: RewardModel, answers: list[Answer], workspace: Workspace) -> None:
    cut = [Answer(task=answer.task, output=answer.output, finished=False) for answer in answers]
    assert all(abs(a - b) > 1e-6 for a, b in zip(scorer.score_answers(answers), scorer.score_answers(cut), strict=True))
    tokenizer = AutoTokenizer.from_pretrained(workspace.locate(workspace.store.models(ModelKind.REWARD)[0]))
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)


def test_scores_are_standardised_on_the_reference_set(workspace: Workspace) -> None:
    for model in workspace.store.models(ModelKind.MEMBER):
        scale = json.loads((workspace.locate(model) / "scale.json").read_text())
        assert scale["texts"] > 100
        assert scale["std"] > 0


def test_a_rebuilt_folder_is_merged_with_its_new_weights(workspace: Workspace, tmp_path: Path) -> None:
    # mergekit keeps what it read of a path for the life of the process.
    base = workspace.locate(workspace.store.models(ModelKind.BASE)[0])
    member = tmp_path / "member"

    def merged(value: float) -> float:
        model = AutoModelForSequenceClassification.from_pretrained(base)
        model.score.weight.data[:] = value
        model.save_pretrained(member)
        merge_models(base, {member: 1.0}, MergeConfig(method="linear"), tmp_path / f"merged-{value}", seed=0)
        return float(AutoModelForSequenceClassification.from_pretrained(tmp_path / f"merged-{value}").score.weight[0, 0])

    assert [merged(1.0), merged(2.0)] == [1.0, 2.0]


def test_a_model_with_two_labels_is_refused(workspace: Workspace, prompts: Prompts, tmp_path: Path) -> None:
    base = workspace.locate(workspace.store.models(ModelKind.BASE)[0])
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2, ignore_mismatched_sizes=True)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="2 labels"):
        RewardModel.load(tmp_path, prompts, max_length=128, batch_tokens=1024)


def test_scores_are_in_the_order_of_the_answers(scorer: RewardModel, answers: list[Answer]) -> None:
    order = np.random.default_rng(0).permutation(len(answers))
    shuffled = scorer.score_answers([answers[place] for place in order])
    assert shuffled == pytest.approx([scorer.score_answers(answers)[place] for place in order], abs=1e-4)
