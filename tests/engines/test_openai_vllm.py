"""The openai engine against vLLM's own server, which this module starts on the nano model."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from statistics import mean
from typing import Any

import pytest

from flywheel.config import EndpointConfig, EngineConfig
from flywheel.engines.contract import Sampling, prompt_tokens
from flywheel.engines.openai_engine import OpenAIEngine
from flywheel.errors import RESUME, ConfigError, EngineError, FlywheelError
from flywheel.instructions.prompts import Prompts
from flywheel.nano.tasks import fresh_tasks, held_out_tasks
from flywheel.nano.world import right_output
from flywheel.records import Completion, FinishReason
from tests.servers import FaultyProxy
from tests.vllm_server import VLLM_KEY as KEY
from tests.vllm_server import Served, vllm_server

pytest.importorskip("vllm")

FREE = Sampling(temperature=1.0, top_p=1.0, max_tokens=32)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with vllm_server(tmp_path_factory.mktemp("vllm") / "log") as server:
        yield server


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANO_KEY", KEY)


def connect(url: str, *, model: str = "nano", chat: bool = False, **endpoint: Any) -> OpenAIEngine:
    settings = EndpointConfig(base_url=url, key_env="NANO_KEY", **endpoint)
    return OpenAIEngine(model, EngineConfig(name="openai", endpoint=settings), chat=chat)


def failure(engine: OpenAIEngine, prompts: list[str], kind: type[FlywheelError]) -> FlywheelError:
    with pytest.raises(kind) as caught:
        engine.generate(prompts, n=1, sampling=FREE, seed=1)
    engine.close()
    assert str(caught.value).isprintable()
    assert KEY not in str(caught.value)
    return caught.value


@pytest.fixture(scope="module")
def asked(prompts: Prompts) -> list[str]:
    return [prompts.answer(task) for task in held_out_tasks()[:60]]


def flat(written: list[list[Completion]]) -> list[Completion]:
    return [completion for group in written for completion in group]


@pytest.mark.usefixtures("key")
def test_every_prompt_gets_its_n_completions(served: Served, asked: list[str]) -> None:
    engine = connect(served.url)
    written = engine.generate(asked, n=4, sampling=FREE, seed=1)
    engine.close()
    assert [len(group) for group in written] == [4] * len(asked)
    # Numbers where numbers are asked for, mostly, and words where words are: a mixed-up order would show.
    with_numbers: dict[bool, list[bool]] = {True: [], False: []}
    for task, group in zip(held_out_tasks(), written, strict=False):
        wanted = any(letter.isdigit() for letter in str(right_output(task)))
        with_numbers[wanted] += [any(letter.isdigit() for letter in completion.text) for completion in group]
    assert mean(with_numbers[True]) > 0.8
    assert mean(with_numbers[False]) < 0.2
    assert all(completion.logprob is not None and completion.logprob < 0 for completion in flat(written))
    assert all(
        group[0].prompt_tokens > 10 and not any(completion.prompt_tokens for completion in group[1:]) for group in written
    )
    assert sum(completion.finish_reason == FinishReason.STOP for completion in flat(written)) > 0.95 * 4 * len(asked)


@pytest.mark.usefixtures("key")
def test_texts_stop_where_they_are_reported_to(served: Served, asked: list[str]) -> None:
    engine = connect(served.url)
    stopped = Sampling(temperature=1.0, top_p=1.0, max_tokens=32, stop=("~", "^", "|", ",", "a"))
    short = Sampling(temperature=1.0, top_p=1.0, max_tokens=2)
    texts, cut = (flat(engine.generate(asked, n=2, sampling=sampling, seed=1)) for sampling in (stopped, short))
    engine.close()
    assert not any("a" in completion.text or "," in completion.text for completion in texts)
    assert {completion.finish_reason for completion in texts} == {FinishReason.STOP}
    assert {completion.finish_reason for completion in cut} == {FinishReason.STOP, FinishReason.LENGTH}
    assert max(completion.tokens for completion in cut) == 2


@pytest.mark.usefixtures("key")
def test_a_prompt_that_is_too_long_is_dropped_and_no_other(served: Served, asked: list[str]) -> None:
    engine = connect(served.url)
    short, *long, other = engine.generate([asked[0], "word " * 600, "x " * 5000, asked[1]], n=2, sampling=FREE, seed=1)
    engine.close()
    assert {completion.finish_reason for completion in flat(long)} == {FinishReason.PROMPT_TOO_LONG}
    assert [len(group) for group in (short, *long, other)] == [2] * 4
    assert all(completion.tokens for completion in (*short, *other))


@pytest.mark.usefixtures("key")
def test_bad_input_is_reported(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = failure(connect(served.url, model="giga"), ["Hello"], ConfigError)
    assert "'giga'" in unknown.message
    assert "available: nano" in unknown.message
    assert "404" in failure(connect(served.url.removesuffix("/v1")), ["Hello"], ConfigError).message
    assert "chat template" in failure(connect(served.url, chat=True), ["Hello"], EngineError).message  # nano has none
    monkeypatch.setenv("NANO_KEY", "wrong")
    wrong = failure(connect(served.url), ["Hello"], ConfigError)
    monkeypatch.delenv("NANO_KEY")
    missing = failure(connect(served.url), ["Hello"], ConfigError)
    assert "NANO_KEY" in wrong.hint
    assert "NANO_KEY" in missing.hint
    assert wrong.message != missing.message


@pytest.mark.usefixtures("key")
def test_a_thousand_requests_with_faults_between(served: Served, prompts: Prompts) -> None:
    different = dict.fromkeys(map(prompts.answer, itertools.islice(fresh_tasks("faults", set()), 1100)))
    asked = list(different)[:1000]
    assert len(asked) == 1000
    with FaultyProxy(served.url, share=0.2, seed=1) as proxy:
        engine = connect(proxy.url)
        started = time.monotonic()
        written = engine.generate(asked, n=4, sampling=FREE, seed=1)
        seconds = time.monotonic() - started
        engine.close()
    sent, faults = len(proxy.asked), Counter(proxy.faults)
    print(f"\n{sent} requests, {sum(faults.values())} faults, {seconds:.1f} s: {dict(faults)}")
    assert set(faults) == set(FaultyProxy.FAULTS)
    assert sum(faults.values()) > 0.15 * sent
    assert sent == 1000 + sum(faults.values()) - faults["delay"]
    whole = dict(proxy.passed)
    assert len(proxy.passed) == len(whole) == 1000  # answered once, and never twice
    for prompt, group in zip(asked, written, strict=True):
        assert [completion.text for completion in group] == [choice["text"] for choice in whole[prompt]["choices"]]
        assert sum(completion.tokens for completion in group) == whole[prompt]["usage"]["completion_tokens"]
        assert prompt_tokens([group]) == whole[prompt]["usage"]["prompt_tokens"]


@pytest.mark.usefixtures("key")
def test_a_server_that_is_killed_at_work_is_reported_on_one_line(served: Served, asked: list[str]) -> None:
    """The last test: there is no server after it."""
    long = Sampling(temperature=1.0, top_p=1.0, max_tokens=400)
    engine = connect(served.url, retries=2)
    threading.Timer(1.0, served.kill).start()
    with pytest.raises(EngineError) as caught:
        engine.generate(asked * 50, n=8, sampling=long, seed=1)
    engine.close()
    assert served.url in caught.value.message
    assert "2 retries" in caught.value.message
    assert "Connection refused" in caught.value.message
    assert RESUME in caught.value.hint
