"""Fine-tuning on the winners."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from flywheel.config import EngineConfig, LoraConfig, TrainingConfig
from flywheel.core.assets import asset
from flywheel.core.files import digest_model
from flywheel.engines.contract import Sampling
from flywheel.engines.factory import load
from flywheel.errors import BudgetSpent, ConfigError, DataError, ModelError
from flywheel.instructions.prompts import Prompts
from flywheel.nano.tasks import held_out_tasks
from flywheel.records import Facts, FinishReason, Winner
from flywheel.training import Example, Job, train_generator, training_examples
from flywheel.training.batching import Order, Rows, keeps_apart, row_length

pytestmark = pytest.mark.slow

NANO = str(asset("data/nano/generator"))
TASKS = held_out_tasks()
WINNERS = [Winner(task=task, output="zebra") for task in TASKS[:80]]
PROPOSALS = [(TASKS[start : start + 3], TASKS[start + 3]) for start in range(0, 320, 4)]
CONFIG = TrainingConfig(epochs=3, learning_rate=1e-3, batch_size=16, max_length=256)


@pytest.mark.parametrize(("share", "answers", "proposals"), [(0.0, 80, 0), (0.2, 80, 20), (0.5, 80, 80), (0.9, 80, 80)])
def test_proposal_shaped_texts_have_their_share(prompts: Prompts, share: float, answers: int, proposals: int) -> None:
    examples = list(training_examples(WINNERS, PROPOSALS, prompts, proposal_share=share, names=(0,)))
    assert sum(example.completion == " zebra" for example in examples) == answers
    assert sum(example.prompt.endswith("Example 4\nInstruction:") for example in examples) == proposals
    assert examples == list(training_examples(WINNERS, PROPOSALS, prompts, proposal_share=share, names=(0,)))
    assert examples != list(training_examples(WINNERS, PROPOSALS, prompts, proposal_share=share, names=(1,)))


def but(**changed: Any) -> TrainingConfig:
    return TrainingConfig(**(CONFIG.model_dump() | changed))


def job(folder: Path, examples: list[Example], config: TrainingConfig = CONFIG, start: str = NANO) -> Job:
    checkpoints = folder.with_name("checkpoints")
    return Job(start=start, folder=folder, examples=examples, config=config, seed=0, checkpoints=checkpoints)


def train(folder: Path, examples: list[Example], config: TrainingConfig = CONFIG, start: str = NANO) -> Facts:
    steps: list[tuple[int, int]] = []
    facts = train_generator(job(folder, examples, config, start), lambda done, total: steps.append((done, total)))
    assert steps[-1][0] == steps[-1][1]
    return facts


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
    facts = train(tmp_path, list(training_examples(WINNERS, PROPOSALS, prompts, proposal_share=0.2, names=(0,))))
    assert facts.rows == 100
    assert json.loads((tmp_path / "config.json").read_text())["use_cache"] is True
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def test_training_repeats(prompts: Prompts, tmp_path: Path) -> None:
    examples = list(training_examples(WINNERS, PROPOSALS, prompts, proposal_share=0.2, names=(0,)))
    for name in ("a", "b"):
        train(tmp_path / name, examples)
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()


def test_texts_over_the_maximum_length_are_dropped_and_counted(prompts: Prompts, tmp_path: Path) -> None:
    examples = list(training_examples(WINNERS, PROPOSALS, prompts, proposal_share=0.2, names=(0,)))
    facts = train(tmp_path, examples, CONFIG.model_copy(update={"max_length": 80}))
    assert (facts.rows, facts.dropped) == (80, {"too long": 20})


def test_what_cannot_be_trained_on_is_a_clear_error(prompts: Prompts, tmp_path: Path) -> None:
    examples = [Example(prompt="a", completion=" b")]
    with pytest.raises(ConfigError, match=r"`training\.args`.*no_such"):
        train(tmp_path, examples, CONFIG.model_copy(update={"args": {"no_such_argument": 1}}))
    with pytest.raises(DataError) as nothing:
        train(tmp_path, [])
    assert "`sampling.max_tokens`" in nothing.value.hint
    with pytest.raises(DataError, match=r"`training\.max_length` \(2\)"):
        train(
            tmp_path,
            [Example(prompt="a long prompt of many words", completion=" b")],
            CONFIG.model_copy(update={"max_length": 2}),
        )


def tiny(kind: str) -> PreTrainedModel:
    """A model of this architecture with weights by chance, large enough for one text to be heard in another."""
    config = CONFIG_MAPPING[kind](
        vocab_size=640, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
        head_dim=8, n_embd=32, n_layer=2, n_head=4, ffn_dim=64, word_embed_proj_dim=32, pad_token_id=0, eos_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
    """The loss of each token that is learnt, row by row."""
    return [
        torch.nn.functional.cross_entropy(row[:-1], wanted[1:], reduction="none")[wanted[1:] != -100]
        for row, wanted in zip(logits, labels, strict=True)
    ]


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "llama", "mistral", "qwen3", "gemma2"])
@torch.inference_mode()
def test_the_loss_of_a_packed_text_is_its_loss_alone(kind: str) -> None:
    model = tiny(kind)
    texts = [torch.randint(1, 640, (length,)) for length in (7, 5, 9, 4)]
    packs = [texts[:3], texts[3:]]
    batch = Rows(0)(
        [
            {
                "input_ids": torch.cat(pack).tolist(),
                "labels": torch.cat(pack).tolist(),
                "seq_lengths": [len(one) for one in pack],
            }
            for pack in packs
        ]
    )
    # Without a cache, as trl trains: a model that has one takes a row for a single text.
    packed = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False)
    together = token_losses(packed.logits, batch["labels"])
    alone = [token_losses(model(input_ids=one[None]).logits, one[None])[0] for one in texts]
    torch.testing.assert_close(together, [torch.cat(alone[:3]), alone[3]], rtol=1e-4, atol=1e-5)
    assert keeps_apart(model)


@pytest.mark.parametrize("kind", ["opt", "bloom", "mamba"])
def test_models_whose_packed_texts_read_each_other_are_not_packed(kind: str, prompts: Prompts, tmp_path: Path) -> None:
    tiny(kind).save_pretrained(tmp_path / kind)
    AutoTokenizer.from_pretrained(NANO).save_pretrained(tmp_path / kind)
    examples = list(training_examples(WINNERS, [], prompts, proposal_share=0.0, names=(0,)))
    with pytest.raises(ConfigError, match=rf"`training\.batching`.* {kind} ") as error:
        train(tmp_path / "trained", examples, but(batching="packed"), str(tmp_path / kind))
    assert "grouped" in error.value.hint


@pytest.mark.parametrize(
    "changed",
    [
        {"batching": "grouped"},
        {"batching": "packed"},
        {"accumulate": 4},
        {"dtype": "bfloat16"},
        {"lora": LoraConfig(), "learning_rate": 0.0001},
    ],
    ids=str,
)
def test_all_ways_to_train_learn_from_the_same_completions(changed: dict[str, Any], prompts: Prompts, tmp_path: Path) -> None:
    # One step on all texts: its loss is before any weight has changed, so it is the same whatever they are batched in.
    examples = list(training_examples(WINNERS, PROPOSALS, prompts, proposal_share=0.2, names=(0,)))
    parts = int(changed.get("accumulate", 1))
    one_step = {"max_steps": 1, "per_device_train_batch_size": len(examples) // parts}
    plain = train(tmp_path / "plain", examples, but(args={"max_steps": 1, "per_device_train_batch_size": len(examples)}))
    other = train(tmp_path / "other", examples, but(args=one_step, **changed))
    assert other.loss == pytest.approx(plain.loss, rel=1e-2 if "dtype" in changed else 1e-5)
    assert other.loss != 0


@pytest.mark.parametrize(
    "changed", [{"batching": "grouped"}, {"batching": "packed"}, {"lora": LoraConfig(dropout=0.1)}], ids=str
)
def test_a_training_that_is_stopped_ends_as_if_it_were_not(changed: dict[str, Any], prompts: Prompts, tmp_path: Path) -> None:
    examples = list(training_examples(WINNERS, PROPOSALS, prompts, proposal_share=0.2, names=(0,)))
    config = but(epochs=2, **changed)
    whole = train(tmp_path / "whole", examples, config)

    def stop(done: int, total: int) -> None:
        # In the midst of the second epoch.
        if done == total * 3 // 4:
            raise BudgetSpent("enough")

    with pytest.raises(BudgetSpent):
        train_generator(job(tmp_path / "stopped", examples, config), stop)
    assert list((tmp_path / "checkpoints").glob("*/whole"))
    assert train(tmp_path / "stopped", examples, config) == whole
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_gradient_checkpointing_changes_nothing(prompts: Prompts, tmp_path: Path) -> None:
    examples = list(training_examples(WINNERS, [], prompts, proposal_share=0.0, names=(0,)))
    for name, checkpointing in (("a", False), ("b", True)):
        train(tmp_path / name, examples, but(epochs=1, gradient_checkpointing=checkpointing))
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_generator_trained_by_adapters_is_whole_everywhere(dtype: str, prompts: Prompts, tmp_path: Path) -> None:
    examples = list(training_examples(WINNERS, PROPOSALS, prompts, proposal_share=0.2, names=(0,)))
    train(tmp_path / "plain", examples, but(epochs=1))
    trained = tmp_path / "trained"
    train(trained, examples, but(lora=LoraConfig(rank=8), dtype=dtype, learning_rate=5e-3))
    # The same files and the same weights by name as from a training of all weights: nothing is left of the adapters.
    assert {path.name for path in trained.iterdir()} == {path.name for path in (tmp_path / "plain").iterdir()}
    assert (trained / "config.json").read_text() == (tmp_path / "plain" / "config.json").read_text()
    start, weights = load_file(Path(NANO) / "model.safetensors"), load_file(trained / "model.safetensors")
    assert {name: one.dtype for name, one in weights.items()} == {name: one.dtype for name, one in start.items()}
    changed = {name for name in weights if not torch.equal(weights[name], start[name])}
    assert changed == {name for name in weights if "_proj" in name}
    model = AutoModelForCausalLM.from_pretrained(trained)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    said = [sum(likelihoods(folder, [(one.prompt, one.completion) for one in examples])) for folder in (NANO, trained)]
    assert said[1] > 0.5 * said[0]
    written_and_read_alike(trained, [one.prompt for one in examples[:40]], tmp_path)


def written_and_read_alike(trained: Path, asked: list[str], tmp_path: Path) -> None:
    """CTranslate2 gives what it writes the likelihood that transformers gives it."""
    engine = load(EngineConfig(name="ctranslate2"), trained, cache=tmp_path / "cache", digest=digest_model(trained))
    written = engine.generate(asked, n=2, sampling=Sampling(temperature=1.0, top_p=1.0, max_tokens=32), seed=0)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    finished = [
        (prompt, one)
        for prompt, group in zip(asked, written, strict=True)
        for one in group
        if one.finish_reason == FinishReason.STOP and len(tokenizer(one.text).input_ids) + 1 == one.tokens
    ]
    assert len(finished) > 60
    read = likelihoods(trained, [(prompt, one.text) for prompt, one in finished])
    assert [one.logprob for _, one in finished] == pytest.approx(read, abs=1e-3)


@torch.inference_mode()
def likelihoods(folder: str | Path, texts: list[tuple[str, str]]) -> list[float]:
    """The mean log-probability of each completion's tokens and its end after its prompt."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    means = []
    for prompt, completion in texts:
        ids = tokenizer(prompt + completion + tokenizer.eos_token, return_tensors="pt").input_ids
        labels = ids.clone()
        labels[:, : len(tokenizer(prompt).input_ids)] = -100
        means.append(-float(model(ids, labels=labels).loss))
    return means


def test_texts_of_like_length_share_a_batch_and_chance_has_its_part() -> None:
    lengths = [place % 97 + 1 for place in range(1003)]
    order = Order(lengths, blanks=0, batch=16, grouped=True, seed=7)
    first = list(order)
    assert sorted(first) == list(range(1003))
    batches = [[lengths[place] for place in first[at : at + 16]] for at in range(0, 1003, 16)]
    assert sum(max(batch) * len(batch) for batch in batches) < 1.05 * sum(lengths)
    assert list(order) == first != list(Order(lengths, blanks=0, batch=16, grouped=True, seed=8))
    order.epoch = 1
    assert sorted(order) == sorted(first)
    assert list(order) != first
    assert list(Order(lengths, blanks=5, batch=16, grouped=True, seed=7)) == [*first, *range(1003, 1008)]


def test_rows_of_packed_texts_hold_as_many_as_a_step_asks_for() -> None:
    assert row_length([10] * 90 + [100] * 10, texts=32, parts=1) == (203, 3)
    assert row_length([10] * 90 + [100] * 10, texts=32, parts=4) == (152, 1)
    assert row_length([50], texts=8, parts=1) == (100, 4)
    assert row_length([5, 400], texts=1, parts=1) == (400, 1)


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"batch_size = 16 .*\(3\)"):
        but(accumulate=3)
    with pytest.raises(ValidationError, match=r"batch_size = 16 .*\(6\)"):
        but(accumulate=3, processes=2)


def test_a_machine_or_generator_that_cannot_is_a_clear_error(
    prompts: Prompts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = list(training_examples(WINNERS, [], prompts, proposal_share=0.0, names=(0,)))
    with pytest.raises(ConfigError, match=r"`training\.lora\.targets`.*no_such"):
        train(tmp_path, examples, but(lora=LoraConfig(targets=("no_such",))))
    for name in ("embed_tokens", "lm_head"):
        with pytest.raises(ConfigError, match=rf"`training\.lora\.targets` .*{name}"):
            train(tmp_path, examples, but(lora=LoraConfig(targets=(name, "q_proj"))))
    with pytest.raises(ConfigError, match=r"`training\.args`.*chunked"):
        train(tmp_path, examples, but(args={"loss_type": "no chunked loss"}))
    with pytest.raises(ModelError, match="nan") as diverged:
        train(tmp_path, examples, but(learning_rate=1e20))
    assert "`training.learning_rate`" in diverged.value.hint
    shutil.copytree(NANO, tmp_path / "short")
    short = json.loads((tmp_path / "short" / "config.json").read_text()) | {"max_position_embeddings": 8}
    (tmp_path / "short" / "config.json").write_text(json.dumps(short))
    with pytest.raises(DataError, match=r"80 training texts .* 8 tokens"):
        train(tmp_path, examples, CONFIG, str(tmp_path / "short"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"`training\.dtype` bfloat16"):
        train(tmp_path, examples, but(dtype="bfloat16"))
    with pytest.raises(ConfigError, match=r"`training\.processes` is 2, .* 1 GPU\b") as fewer:
        train(tmp_path, examples, but(processes=2))
    assert "`training.processes` to at most 1" in fewer.value.hint
