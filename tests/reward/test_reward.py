"""The reward model: what breaks such models is tried here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from flywheel.reward.accuracy import accuracies
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from flywheel.config import Config, MergeConfig
from flywheel.errors import DataError, ModelError
from flywheel.files import digest_model
from flywheel.instructions.text import Prompts
from flywheel.nano.data import held_out_tasks
from flywheel.nano.world import right_output
from flywheel.records import ModelKind
from flywheel.reward.build import load_scorer
from flywheel.reward.data import Pair, Split, Thumb, read_pairs, read_preferences, read_thumbs
from flywheel.reward.mergekit import merge_recipe, run_mergekit
from flywheel.reward.model import RewardModel
from flywheel.reward.slice import build_base
from flywheel.reward.text import Answer
from flywheel.workspace import Workspace

ROW = {"instruction": "Sort.", "input": "b, a", "constraints": "None"}


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
    assert workspace.store.models(ModelKind.BASE)[0].numbers["parameters"] > 700_000
    members = workspace.store.models(ModelKind.MEMBER)
    assert [model.name for model in members] == ["thumbs", "pairs", "form"]
    for model in [*members, *workspace.store.models(ModelKind.REWARD)]:
        assert set(model.numbers["accuracy"]) == {"thumbs", "pairs", "form"}
        assert all(0.3 < figure < 1 for figure in model.numbers["accuracy"].values())
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

    (merged,), (base,), members = weights(ModelKind.REWARD), weights(ModelKind.BASE), weights(ModelKind.MEMBER)
    moved = [(member - base).norm() for member in members]
    assert 0 < (merged - base).norm() < sum(moved)
    assert all((merged - member).norm() > 0 for member in members)


def test_a_text_scores_the_same_alone_and_in_any_batch(scorer: RewardModel, answers: list[Answer]) -> None:
    alone = [scorer.score([answer])[0] for answer in answers]
    assert scorer.score(answers) == pytest.approx(alone, abs=1e-4)
    assert scorer.score(answers[::-1])[::-1] == pytest.approx(alone, abs=1e-4)


def test_scoring_repeats_across_reloads(
    workspace: Workspace, small_config: Config, scorer: RewardModel, answers: list[Answer]
) -> None:
    again = load_scorer(workspace.locate(workspace.store.models(ModelKind.REWARD)[0]), small_config)
    assert again.score(answers) == scorer.score(answers)


def test_the_end_of_a_text_is_visible(scorer: RewardModel, answers: list[Answer], workspace: Workspace) -> None:
    cut = [Answer(task=answer.task, output=answer.output, finished=False) for answer in answers]
    assert all(abs(a - b) > 1e-6 for a, b in zip(scorer.score(answers), scorer.score(cut), strict=True))
    tokenizer = AutoTokenizer.from_pretrained(workspace.locate(workspace.store.models(ModelKind.REWARD)[0]))
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)


def test_scores_are_standardised_on_the_reference_set(workspace: Workspace) -> None:
    for model in workspace.store.models(ModelKind.MEMBER):
        scale = json.loads((workspace.locate(model) / "scale.json").read_text())
        assert scale["texts"] > 100
        assert scale["std"] > 0


def test_the_reward_model_tells_form_better_than_chance(scorer: RewardModel, small_config: Config) -> None:
    member = small_config.reward.members["form"]
    assert accuracies(scorer, {"form": read_preferences(small_config.path(member.data), member.kind)})["form"] > 0.5


class Fixed:
    """Scores an answer by the number in its output."""

    def score(self, answers: list[Answer]) -> list[float]:
        return [float(answer.output) for answer in answers]


def test_accuracy_of_pairs_counts_a_tie_as_half(answers: list[Answer]) -> None:
    def pair(chosen: str, rejected: str) -> Pair:
        task = answers[0].task
        return Pair(chosen=Answer(task=task, output=chosen), rejected=Answer(task=task, output=rejected), split=Split.TEST)

    found = accuracies(Fixed(), {"pairs": [pair("2", "1"), pair("1", "2"), pair("1", "1"), pair("3", "1")]})
    assert found == {"pairs": 0.625}


def test_accuracy_of_thumbs_takes_its_threshold_from_the_validation_split(answers: list[Answer]) -> None:
    def thumb(score: float, liked: bool, split: Split) -> Thumb:
        return Thumb(answer=Answer(task=answers[0].task, output=str(score)), liked=liked, split=split)

    validation = [thumb(score, score > 5, Split.VALIDATION) for score in range(11)]
    test = [
        thumb(5.6, True, Split.TEST),
        thumb(5.4, False, Split.TEST),
        thumb(9, False, Split.TEST),
        thumb(0, False, Split.TEST),
    ]
    assert accuracies(Fixed(), {"thumbs": validation + test}) == {"thumbs": 0.75}


def write(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{broken", "line 2 is not JSON"),
        ("[1]", "line 2 must be an object"),
        (ROW | {"output": "x", "label": 2}, "line 2: label must be 0 or 1, got 2"),
        (ROW | {"output": " ", "label": 1}, "line 2: 'output' must be a text"),
        (ROW | {"label": 1}, "line 2: 'output' must be a text, got None"),
        (ROW | {"output": "x", "label": 1, "split": "tset"}, "line 2: split must be one of train, validation, test"),
    ],
)
def test_a_broken_row_of_thumbs_is_named_by_its_line(row: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read_thumbs(write(tmp_path / "thumbs.jsonl", ROW | {"output": "x", "label": 1}, row))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_pairs_of_equal_outputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 1: chosen and rejected are the same"):
        read_pairs(write(tmp_path / "pairs.jsonl", ROW | {"chosen": "x", "rejected": "x"}))


def test_thumbs_of_one_class_are_refused(tmp_path: Path) -> None:
    rows = [ROW | {"output": "x", "label": 1, "split": split} for split in Split]
    with pytest.raises(DataError, match="all labels of the train split are the same"):
        read_thumbs(write(tmp_path / "thumbs.jsonl", *rows))


def test_rows_of_one_task_share_a_split(tmp_path: Path) -> None:
    rows = [ROW | {"input": str(number), "chosen": f"c{k}", "rejected": "r"} for number in range(60) for k in range(3)]
    splits: dict[str, set[Split]] = {}
    for pair in read_pairs(write(tmp_path / "pairs.jsonl", *rows)):
        splits.setdefault(pair.chosen.task.task_id, set()).add(pair.split)
    assert all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == set(Split)


def test_more_layers_than_the_base_has_are_refused(small_config: Config, tmp_path: Path) -> None:
    source = small_config.model(small_config.reward.base)
    with pytest.raises(ModelError, match=r"reward.layers is 9, but .* has 4"):
        build_base(source, tmp_path / "base", layers=9, seed=0)
    assert not list(tmp_path.iterdir())


def test_a_base_without_a_pad_token_gets_one(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    from flywheel.assets import asset

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(asset("data/nano/generator/tokenizer.json")), eos_token="<|end|>", pad_token="<|end|>"
    )
    GPT2LMHeadModel(GPT2Config(vocab_size=640, n_embd=32, n_layer=4, n_head=2, n_positions=64)).save_pretrained(
        tmp_path / "gpt2"
    )
    tokenizer.save_pretrained(tmp_path / "gpt2")
    build_base(str(tmp_path / "gpt2"), tmp_path / "base", layers=2, seed=0)
    loaded = AutoTokenizer.from_pretrained(tmp_path / "base")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    assert loaded.pad_token_id not in (None, loaded.eos_token_id)
    assert model.config.pad_token_id == loaded.pad_token_id
    assert model.config.n_layer == 2
    assert not (tmp_path / "base" / "sliced").exists()


def test_a_folder_built_anew_is_merged_with_its_new_weights(workspace: Workspace, tmp_path: Path) -> None:
    # mergekit keeps what it read of a path for the life of the process.
    base = workspace.locate(workspace.store.models(ModelKind.BASE)[0])
    member = tmp_path / "member"

    def merged(value: float) -> float:
        model = AutoModelForSequenceClassification.from_pretrained(base)
        model.score.weight.data[:] = value
        model.save_pretrained(member)
        run_mergekit(merge_recipe(base, {member: 1.0}, MergeConfig(method="linear")), tmp_path / f"merged-{value}")
        return float(AutoModelForSequenceClassification.from_pretrained(tmp_path / f"merged-{value}").score.weight[0, 0])

    assert [merged(1.0), merged(2.0)] == [1.0, 2.0]


def test_a_model_with_two_labels_is_refused(workspace: Workspace, prompts: Prompts, tmp_path: Path) -> None:
    base = workspace.locate(workspace.store.models(ModelKind.BASE)[0])
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2, ignore_mismatched_sizes=True)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="has 2 labels"):
        RewardModel(tmp_path, prompts, max_length=128, batch_tokens=1024)


def test_scores_are_in_the_order_of_the_answers(scorer: RewardModel, answers: list[Answer]) -> None:
    order = np.random.default_rng(0).permutation(len(answers))
    shuffled = scorer.score([answers[place] for place in order])
    assert shuffled == pytest.approx([scorer.score(answers)[place] for place in order], abs=1e-4)
