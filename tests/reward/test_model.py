"""Scoring fast: shared prompts and batches by tokens change no score."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from flywheel.errors import DataError
from flywheel.instructions.prompts import Prompts
from flywheel.nano.tasks import held_out_tasks
from flywheel.records import ModelKind, Task
from flywheel.reward.model import RewardModel
from flywheel.reward.slice import build_base
from flywheel.reward.text import Answer, shared_beginning, token_ids
from flywheel.workspace import Workspace
from tests.reward.families import FAMILIES, make_model

OUTPUTS = ["ant", "the ant", "ant ant bee bee cat", "x"]


@pytest.fixture(scope="module")
def answers() -> list[Answer]:
    """Four outputs a task, the tasks beside each other, one cut off; and texts without a task."""
    tasks = held_out_tasks()[:25]
    found = [Answer(task=task, output=output, finished=output != "x") for task in tasks for output in OUTPUTS]
    return [*found, *(Answer(task=None, output=f"a whole text {number}") for number in range(3))]


@pytest.fixture(scope="module")
def folder(built: Path) -> Path:
    workspace = Workspace(built)
    return workspace.locate(workspace.store.models(ModelKind.REWARD)[0])


@pytest.mark.parametrize("batch_tokens", [64, 500, 16384])
def test_shared_prompts_change_no_score(batch_tokens: int, folder: Path, prompts: Prompts, answers: list[Answer]) -> None:
    shared = RewardModel.load(folder, prompts, max_length=128, batch_tokens=batch_tokens)
    plain = RewardModel.load(folder, prompts, max_length=128, batch_tokens=batch_tokens, share_prompts=False)
    alone = [plain.score_answers([answer])[0] for answer in answers]
    assert shared.score_answers(answers) == pytest.approx(alone, abs=1e-4)
    assert plain.score_answers(answers) == pytest.approx(alone, abs=1e-4)
    assert shared.score_answers(answers[::-1]) == pytest.approx(alone[::-1], abs=1e-4)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("roberta", "bert", "deberta-v2")])
def test_every_causal_family_shares_prompts(family: str, prompts: Prompts, answers: list[Answer], tmp_path: Path) -> None:
    build_base(str(make_model(family, tmp_path / "source")), tmp_path / "base", layers=2, seed=0)
    shared, plain = (RewardModel.load(tmp_path / "base", prompts, share_prompts=one) for one in (True, False))
    assert shared.shares_prompts
    assert shared.score_answers(answers) == pytest.approx(plain.score_answers(answers), abs=1e-4)


def test_prompts_beyond_a_sliding_window_are_not_shared(tmp_path: Path) -> None:
    source = make_model("mistral", tmp_path / "source")
    build_base(str(source), tmp_path / "base", layers=2, seed=0)
    path = tmp_path / "base" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sliding_window": 16}))
    assert not RewardModel.load(tmp_path / "base").shares_prompts
    assert RewardModel.load(tmp_path / "base", max_length=16).shares_prompts


def test_long_texts_lose_their_beginning_and_keep_their_end(folder: Path, prompts: Prompts) -> None:
    scorer = RewardModel.load(folder, prompts, max_length=24)
    task = held_out_tasks()[0]
    long = [Answer(task=task, output="bee " * 40 + output) for output in OUTPUTS]
    together = scorer.score_answers(long)
    assert together == pytest.approx([scorer.score_answers([answer])[0] for answer in long], abs=1e-4)
    assert len(set(together)) == len(long)
    ids = token_ids(scorer.tokenizer, ["bee " * 40 + "cat"], max_length=24)[0]
    assert len(ids) == 24
    assert scorer.tokenizer.decode(ids).endswith("cat")


def test_an_encoder_keeps_its_first_mark_when_it_is_cut(tmp_path: Path) -> None:
    build_base(str(make_model("bert", tmp_path / "source")), tmp_path / "base", layers=2, seed=0)
    scorer = RewardModel.load(tmp_path / "base", max_length=10)
    ids = token_ids(scorer.tokenizer, ["bee " * 40], max_length=10)[0]
    assert len(ids) == 10
    assert ids[0] == scorer.tokenizer.cls_token_id
    assert ids[-1] == scorer.tokenizer.sep_token_id


def test_no_more_tokens_are_read_than_the_model_has_positions(tmp_path: Path) -> None:
    for family, positions in (("gpt2", 256), ("roberta", 257)):
        build_base(str(make_model(family, tmp_path / family)), tmp_path / f"{family}-base", layers=2, seed=0)
        scorer = RewardModel.load(tmp_path / f"{family}-base", max_length=4096)
        assert scorer.max_length == positions
        assert len(scorer.score_texts(["bee " * 2000, "bee"])) == 2


def test_the_same_text_scores_the_same_wherever_it_is(folder: Path, prompts: Prompts, answers: list[Answer]) -> None:
    scorer = RewardModel.load(folder, prompts)
    once, twice = scorer.score_answers(answers), scorer.score_answers([*answers, *reversed(answers)])
    assert twice[: len(answers)] == twice[: len(answers) - 1 : -1]
    assert twice[: len(answers)] == once


def test_a_folder_scores_prompts_and_outputs_outside_of_a_workspace(folder: Path, tmp_path: Path) -> None:
    model = RewardModel.load(str(shutil.copytree(folder, tmp_path / "alone")))
    task, plain = held_out_tasks()[0], "Name a colour."
    scores = model.score([task, task, plain], ["ant", "bee", "Red."])
    answers = [
        Answer(task=task, output="ant"), Answer(task=task, output="bee"),
        Answer(task=Task(instruction=plain, input="None"), output="Red."),
    ]  # fmt: skip
    assert scores == pytest.approx(model.score_answers(answers))
    assert all(type(score) is float for score in scores)
    assert model.score([], []) == []


@pytest.mark.parametrize(
    ("prompts_given", "outputs", "quoted"),
    [
        (["one"], ["a", "b"], "1 prompts and 2 outputs"),
        ("one", ["a", "b", "c"], "one text"),
        (["one"], "a", "one text"),
        (["one", "two"], ["a", "half \ud83d"], "2"),
    ],
)
def test_what_cannot_be_scored_is_a_data_error(
    prompts_given: Sequence[str], outputs: Sequence[str], quoted: str, folder: Path
) -> None:
    with pytest.raises(DataError) as error:
        RewardModel.load(folder).score(prompts_given, outputs)
    assert quoted in error.value.message
    assert error.value.hint


def test_by_default_a_model_reads_as_much_as_it_can(folder: Path) -> None:
    limit = json.loads((folder / "config.json").read_text())["max_position_embeddings"]
    assert RewardModel.load(folder).max_length == limit
    assert RewardModel.load(folder, max_length=limit + 1).max_length == limit


def test_torch_is_imported_when_a_model_is_loaded() -> None:
    program = "import sys, flywheel.reward.model; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_nothing_scored_is_nothing(folder: Path) -> None:
    assert RewardModel.load(folder).score_answers([]) == []


def test_the_beginning_that_sequences_share() -> None:
    assert shared_beginning([[1, 2, 3], [1, 2, 4], [1, 2]]) == 2
    assert shared_beginning(["abc", "abc"]) == 3
    assert shared_beginning(["x", "y"]) == 0
