"""One contract for all engines, on the real libraries and the committed nano model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from flywheel.assets import asset
from flywheel.config import EngineConfig
from flywheel.engines.engine import Engine, Sampling, cut_at_stop, load
from flywheel.errors import ConfigError
from flywheel.instructions.text import Prompts
from flywheel.nano.data import held_out_tasks
from flywheel.records import FinishReason

NANO = asset("data/nano/generator")
FREE = Sampling(temperature=1.0, top_p=1.0, max_tokens=32)


@pytest.fixture(scope="module", params=["ctranslate2", "transformers"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return load(EngineConfig(name=request.param), NANO, cache=tmp_path_factory.mktemp("converted"), digest="nano")


@pytest.fixture(scope="module")
def asked(prompts: Prompts) -> list[str]:
    return [prompts.answer(task) for task in held_out_tasks()[:70]]


def test_every_prompt_gets_its_n_completions_in_order(engine: Engine, asked: list[str]) -> None:
    written = engine.generate(asked, n=3, sampling=FREE, seed=1)
    assert [len(group) for group in written] == [3] * 70
    # The base answers `count` with digits and `reverse` with words: a mixed-up order would show.
    counts = [group for prompt, group in zip(asked, written, strict=True) if "Count the words." in prompt]
    assert counts
    assert all(any(letter.isdigit() for letter in one.text) for group in counts for one in group)


def test_the_same_seed_repeats_and_another_does_not(engine: Engine, asked: list[str]) -> None:
    once = engine.generate(asked, n=2, sampling=FREE, seed=1)
    assert engine.generate(asked, n=2, sampling=FREE, seed=1) == once
    assert engine.generate(asked, n=2, sampling=FREE, seed=2) != once


def test_finished_texts_stop_and_cut_texts_say_so(engine: Engine, asked: list[str]) -> None:
    cut = [
        one
        for group in engine.generate(asked, n=2, sampling=Sampling(temperature=1, top_p=1, max_tokens=2), seed=1)
        for one in group
    ]
    assert {one.finish_reason for one in cut} == {FinishReason.STOP, FinishReason.LENGTH}
    assert max(one.tokens for one in cut) == 2
    free = [one for group in engine.generate(asked, n=2, sampling=FREE, seed=1) for one in group]
    assert sum(one.finish_reason == FinishReason.STOP for one in free) > 0.95 * len(free)
    assert not any("<|end|>" in one.text or "<|pad|>" in one.text for one in free)


def test_a_stop_string_ends_the_text_before_it(engine: Engine, asked: list[str]) -> None:
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=32, stop=(",",))
    written = [one for group in engine.generate(asked, n=1, sampling=sampling, seed=1) for one in group]
    assert not any("," in one.text for one in written)
    assert {one.finish_reason for one in written} == {FinishReason.STOP}


def test_positions_carry_no_likelihood(engine: Engine, asked: list[str]) -> None:
    written = engine.generate(asked, n=4, sampling=FREE, seed=1)
    first = sum(max(group, key=lambda one: one.logprob or 0.0) is group[0] for group in written)
    assert first < 40  # sorted output would give 70, chance gives 17


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_likelihood_is_the_models_own(engine: Engine, asked: list[str], temperature: float) -> None:
    sampling = Sampling(temperature=temperature, top_p=1.0, max_tokens=32)
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    model = AutoModelForCausalLM.from_pretrained(NANO, dtype=torch.float32).eval()
    checked = 0
    for prompt, (one,) in zip(asked[:12], engine.generate(asked[:12], n=1, sampling=sampling, seed=5), strict=True):
        start = len(tokenizer(prompt).input_ids)
        ids = tokenizer(prompt + one.text + tokenizer.eos_token, return_tensors="pt").input_ids
        if ids.shape[1] - start != one.tokens:
            continue  # the model spelled a word in other tokens than the tokenizer would
        with torch.inference_mode():
            logprobs = model(ids).logits.log_softmax(-1)
        picked = logprobs[0, start - 1 : -1].gather(-1, ids[0, start:, None]).mean()
        assert one.logprob == pytest.approx(float(picked), abs=2e-3)
        checked += 1
    assert checked >= 8


def test_the_number_of_workers_changes_no_text(asked: list[str], tmp_path: Path) -> None:
    texts = [
        load(EngineConfig(name="ctranslate2", workers=workers), NANO, cache=tmp_path, digest="nano").generate(
            asked * 3, n=2, sampling=FREE, seed=3
        )
        for workers in (1, 2, 4)
    ]
    assert texts[0] == texts[1] == texts[2]


def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        load(EngineConfig(name="transformers", device="cuda"), NANO, cache=tmp_path, digest="nano")


def test_the_first_stop_string_in_the_text_counts() -> None:
    assert cut_at_stop("abc; def. ghi", (".", ";"), FinishReason.LENGTH) == ("abc", FinishReason.STOP)
    assert cut_at_stop("abc", (".",), FinishReason.LENGTH) == ("abc", FinishReason.LENGTH)
