"""Fine-tuning on the winners."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from flywheel.assets import asset
from flywheel.config import TrainingConfig
from flywheel.errors import ConfigError, DataError
from flywheel.instructions.text import Prompts
from flywheel.nano.data import held_out_tasks
from flywheel.records import Winner
from flywheel.training import Example, train_generator, training_examples

NANO = str(asset("data/nano/generator"))
TASKS = held_out_tasks()
WINNERS = [Winner(task=task, output="zebra") for task in TASKS[:80]]
PROPOSALS = [(TASKS[start : start + 3], TASKS[start + 3]) for start in range(0, 320, 4)]
CONFIG = TrainingConfig(epochs=3, learning_rate=1e-3, batch_size=16, max_length=256)


@pytest.mark.parametrize(("share", "answers", "proposals"), [(0.0, 80, 0), (0.2, 80, 20), (0.5, 80, 80), (0.9, 80, 80)])
def test_proposal_shaped_texts_have_their_share(prompts: Prompts, share: float, answers: int, proposals: int) -> None:
    examples = training_examples(WINNERS, PROPOSALS, prompts, proposal_share=share, names=(0,))
    assert sum(example.completion == " zebra" for example in examples) == answers
    assert sum(example.prompt.endswith("Example 4\nInstruction:") for example in examples) == proposals
    assert examples == training_examples(WINNERS, PROPOSALS, prompts, proposal_share=share, names=(0,))
    assert examples != training_examples(WINNERS, PROPOSALS, prompts, proposal_share=share, names=(1,))


def train(folder: Path, examples: list[Example], config: TrainingConfig = CONFIG) -> dict[str, float]:
    steps: list[tuple[int, int]] = []
    numbers = train_generator(
        NANO, folder, examples, config,
        seed=0, advance=lambda done, total: steps.append((done, total)), checkpoints=folder.with_name("checkpoints"),
    )  # fmt: skip
    assert steps[-1][0] == steps[-1][1]
    return numbers


@torch.inference_mode()
def loss_on(folder: str | Path, text: str) -> float:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = tokenizer(text, return_tensors="pt").input_ids
    return float(model(ids, labels=ids).loss)


def test_the_generator_learns_the_completions_and_not_the_prompts(prompts: Prompts, tmp_path: Path) -> None:
    # Prompts of one strange word: were they part of the loss, their likelihood would rise as that of the completion does.
    strange = "wrench " * 12
    examples = [Example(prompt=f"{strange}{number}:", completion=" zebra") for number in range(48)]
    train(tmp_path / "trained", examples)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "trained")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "trained")
    batch = tokenizer(f"{strange}7:", return_tensors="pt")
    written = model.generate(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=8, do_sample=False
    )
    assert tokenizer.decode(written[0, batch["input_ids"].shape[1] :], skip_special_tokens=True) == " zebra"
    assert int(written[0, -1]) == tokenizer.eos_token_id
    assert loss_on(tmp_path / "trained", strange) > 0.8 * loss_on(NANO, strange)


def test_the_saved_generator_is_whole(prompts: Prompts, tmp_path: Path) -> None:
    numbers = train(tmp_path, training_examples(WINNERS, PROPOSALS, prompts, proposal_share=0.2, names=(0,)))
    assert numbers["rows"] == 100
    assert json.loads((tmp_path / "config.json").read_text())["use_cache"] is True
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def test_training_repeats(prompts: Prompts, tmp_path: Path) -> None:
    examples = training_examples(WINNERS, PROPOSALS, prompts, proposal_share=0.2, names=(0,))
    for name in ("a", "b"):
        train(tmp_path / name, examples)
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()


def test_texts_over_the_maximum_length_are_dropped_and_counted(prompts: Prompts, tmp_path: Path) -> None:
    examples = training_examples(WINNERS, PROPOSALS, prompts, proposal_share=0.2, names=(0,))
    numbers = train(tmp_path, examples, CONFIG.model_copy(update={"max_length": 80}))
    assert numbers == numbers | {"rows": 80, "dropped_too_long": 20}


def test_what_cannot_be_trained_on_is_one_line(prompts: Prompts, tmp_path: Path) -> None:
    examples = [Example(prompt="a", completion=" b")]
    with pytest.raises(ConfigError, match=r"training\.args: .*no_such"):
        train(tmp_path, examples, CONFIG.model_copy(update={"args": {"no_such_argument": 1}}))
    with pytest.raises(DataError, match="nothing to train on"):
        train(tmp_path, [])
    with pytest.raises(DataError, match=r"over training\.max_length \(2\)"):
        train(
            tmp_path,
            [Example(prompt="a long prompt of many words", completion=" b")],
            CONFIG.model_copy(update={"max_length": 2}),
        )
