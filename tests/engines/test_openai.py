"""The openai engine against a real server of the nano model, and against all that servers do wrong."""

from __future__ import annotations

import gzip
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from flywheel.config import EndpointConfig, EngineConfig
from flywheel.config.loading import parse
from flywheel.engines.contract import Engine, Sampling, prompt_tokens
from flywheel.engines.factory import load
from flywheel.engines.openai_engine import OpenAIEngine
from flywheel.engines.openai_errors import SHOWN, BrokenReply, one_line
from flywheel.engines.openai_format import read_reply, shares
from flywheel.errors import RESUME, ConfigError, EngineError, FlywheelError
from flywheel.instructions.prompts import Prompts
from flywheel.nano.tasks import held_out_tasks
from flywheel.records import Completion, FinishReason
from tests.servers import NANO, Answer, FaultyProxy, Manners, NanoServer, Says, given, refusal

FREE = Sampling(temperature=1.0, top_p=1.0, max_tokens=32)
KEY = "sk-test-0123456789abcdef"
Connect = Callable[..., OpenAIEngine]


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return load(EngineConfig(name="ctranslate2"), NANO, cache=tmp_path_factory.mktemp("converted"), digest="nano")


@pytest.fixture(scope="module")
def asked(prompts: Prompts) -> list[str]:
    return [prompts.answer(task) for task in held_out_tasks()[:40]]


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Start engines, and close them after the test."""
    started: list[OpenAIEngine] = []

    def start(url: str, *, model: str = "nano", chat: bool = False, args: Any = None, **endpoint: Any) -> OpenAIEngine:
        settings = EndpointConfig.model_validate({"base_url": url} | endpoint)
        config = EngineConfig(name="openai", endpoint=settings, args=args or {})
        started.append(OpenAIEngine(model, config, chat=chat))
        return started[-1]

    yield start
    for engine in started:
        engine.close()


def only(server: NanoServer, prompt: str) -> list[Completion]:
    """What a server wrote for a prompt that it was asked once."""
    (written,) = [group for asked_for, group in server.written if asked_for == prompt]
    return written


def failure(engine: OpenAIEngine, prompts: list[str] | None = None, n: int = 1) -> FlywheelError:
    """The error that these prompts end in: printable, on one line, and without the exceptions of libraries."""
    with pytest.raises(FlywheelError) as caught:
        engine.generate(prompts or ["Hello"], n=n, sampling=FREE, seed=1)
    assert str(caught.value).isprintable()
    assert caught.value.hint
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value


@pytest.mark.parametrize("chat", [False, True])
def test_every_prompt_gets_what_was_written_for_it(nano: Engine, asked: list[str], connect: Connect, chat: bool) -> None:
    with NanoServer(nano) as server:
        written = connect(server.url, chat=chat, concurrency=8).generate(asked, n=3, sampling=FREE, seed=1)
        for prompt, group in zip(asked, written, strict=True):
            there = only(server, prompt)
            assert [(completion.text, completion.tokens, completion.finish_reason) for completion in group] == [
                (completion.text, completion.tokens, completion.finish_reason) for completion in there
            ]
            assert [completion.logprob for completion in group] == pytest.approx([completion.logprob for completion in there])
            assert group[0].prompt_tokens > 20
            assert [completion.prompt_tokens for completion in group[1:]] == [0, 0]
        assert len(server.connections) <= 8
        assert set(server.paths) == {"/v1/chat/completions" if chat else "/v1/completions"}


def test_a_request_says_what_all_servers_take(nano: Engine, connect: Connect) -> None:
    sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=5, stop=("1", "2", "3", "4", "5", "6"))
    with NanoServer(nano) as server:
        connect(server.url).generate(["Hello"], n=2, sampling=sampling, seed=1)
        connect(server.url, chat=True, args={"top_k": 0, "top_p": None}).generate(["Hello"], n=1, sampling=sampling, seed=1)
        connect(server.url, chat=True, args={"logprobs": None}).generate([""], n=1, sampling=sampling, seed=1)
        completion, chat, empty = server.asked
    shared = {"model": "nano", "temperature": 0.7, "max_tokens": 5, "stop": ["1", "2", "3", "4"]}
    assert completion == shared | {"prompt": "Hello", "n": 2, "top_p": 0.9, "logprobs": 1}
    messages = [{"role": "user", "content": "Hello"}]
    assert chat == shared | {"messages": messages, "top_k": 0, "logprobs": True, "top_logprobs": 1}
    assert empty == shared | {"messages": [{"role": "user", "content": "\n"}], "top_p": 0.9}


def test_texts_end_at_a_stop_string_that_was_sent_and_at_one_that_was_not(
    nano: Engine, asked: list[str], connect: Connect
) -> None:
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=32, stop=("~", "^", "|", ",", "a"))
    with NanoServer(nano) as server:
        texts = [
            completion for group in connect(server.url).generate(asked, n=1, sampling=sampling, seed=1) for completion in group
        ]
        there = [completion.text for _, group in server.written for completion in group]
    assert not any("," in text for text in there)
    assert any("a" in text for text in there)
    assert not any("a" in completion.text or "," in completion.text for completion in texts)
    assert {completion.finish_reason for completion in texts} == {FinishReason.STOP}


def test_cut_texts_say_so(nano: Engine, asked: list[str], connect: Connect) -> None:
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=2)
    with NanoServer(nano) as server:
        written = [
            completion for group in connect(server.url).generate(asked, n=2, sampling=sampling, seed=1) for completion in group
        ]
    assert {completion.finish_reason for completion in written} == {FinishReason.STOP, FinishReason.LENGTH}
    assert max(completion.tokens for completion in written) == 2


def test_seeds_repeat_where_they_are_sent(nano: Engine, asked: list[str], connect: Connect) -> None:
    with NanoServer(nano) as server:
        seeded = connect(server.url, seeded=True)
        once = seeded.generate(asked, n=2, sampling=FREE, seed=1)
        assert seeded.generate(asked, n=2, sampling=FREE, seed=1) == once
        assert seeded.generate(asked, n=2, sampling=FREE, seed=2) != once
        assert len({body["seed"] for body in server.asked}) == 2 * len(asked)
        server.asked.clear()
        connect(server.url).generate(asked, n=2, sampling=FREE, seed=1)
        assert not any("seed" in body for body in server.asked)


@pytest.mark.parametrize("choices", ["one", "refused"])
def test_a_server_that_gives_one_at_a_time_is_asked_again(
    nano: Engine, asked: list[str], connect: Connect, choices: str
) -> None:
    with NanoServer(nano, Manners(choices=choices)) as server:
        engine = connect(server.url, seeded=True, concurrency=4)
        written = engine.generate(asked, n=4, sampling=FREE, seed=1)
        for prompt, group in zip(asked, written, strict=True):
            there = [completion.text for asked_for, (completion,) in server.written if asked_for == prompt]
            assert Counter(completion.text for completion in group) == Counter(there)
            assert len(there) == 4
            assert all(completion.prompt_tokens for completion in group)  # it was read four times
        # The server is known by now, and a place has the same seed in whichever request it is asked for.
        server.asked.clear()
        assert engine.generate(asked, n=4, sampling=FREE, seed=1) == written
        assert len(server.asked) == 4 * len(asked)
        assert not any("n" in body for body in server.asked)


def test_a_request_asks_for_no_more_choices_than_the_config_says(nano: Engine, connect: Connect) -> None:
    with NanoServer(nano) as server:
        (written,) = connect(server.url, most_choices=3).generate(["Hello"], n=8, sampling=FREE, seed=1)
        assert len(written) == 8
        assert sorted(body["n"] for body in server.asked) == [2, 3, 3]


@pytest.mark.parametrize("logprobs", ["ignored", "refused"])
def test_a_server_without_log_probabilities_works(nano: Engine, asked: list[str], connect: Connect, logprobs: str) -> None:
    with NanoServer(nano, Manners(logprobs=logprobs)) as server:
        written = connect(server.url).generate(asked, n=2, sampling=FREE, seed=1)
        assert {completion.logprob for group in written for completion in group} == {None}
        for prompt, group in zip(asked, written, strict=True):
            assert sum(completion.tokens for completion in group) == sum(
                completion.tokens for completion in only(server, prompt)
            )
        assert server.asked[-1].get("n") == 2


def test_a_model_that_thinks_is_given_its_limit_in_other_words(nano: Engine, asked: list[str], connect: Connect) -> None:
    with NanoServer(nano, Manners(thinks=True)) as server:
        engine = connect(server.url, chat=True)
        engine.generate(asked, n=2, sampling=FREE, seed=1)
        server.asked.clear()
        engine.generate(asked, n=2, sampling=FREE, seed=1)
        assert [(body["max_completion_tokens"], body["n"]) for body in server.asked] == [(32, 2)] * len(asked)


def test_tokens_that_nobody_counted_are_estimated(nano: Engine, asked: list[str], connect: Connect) -> None:
    with NanoServer(nano, Manners(usage=False)) as server:
        written = connect(server.url).generate(asked, n=2, sampling=FREE, seed=1)
        for prompt, group in zip(asked, written, strict=True):
            assert [completion.tokens for completion in group] == [
                completion.tokens for completion in only(server, prompt)
            ]  # by log-probabilities
            assert group[0].prompt_tokens == -(-len(prompt) // 4)
    with NanoServer(nano, Manners(usage=False, logprobs="ignored")) as server:
        for group in connect(server.url).generate(asked, n=2, sampling=FREE, seed=1):
            assert [completion.tokens for completion in group] == [-(-len(completion.text) // 4) for completion in group]


def test_only_the_prompt_that_is_too_long_is_dropped(nano: Engine, asked: list[str], connect: Connect) -> None:
    with NanoServer(nano) as server:
        engine = connect(server.url)
        short, long, other = engine.generate([asked[0], "word " * 600, asked[1]], n=3, sampling=FREE, seed=1)
        assert [completion.finish_reason for completion in long] == [FinishReason.PROMPT_TOO_LONG] * 3
        assert [completion.text for completion in short] == [completion.text for completion in only(server, asked[0])]
        assert [completion.text for completion in other] == [completion.text for completion in only(server, asked[1])]
        assert {body.get("n") for body in server.asked} == {3}  # nothing was learned from that refusal


@pytest.mark.parametrize(
    "answer",
    [
        refusal(400, "This model's maximum context length is 8192 tokens.", code="context_length_exceeded"),
        refusal(400, "the request exceeds the available context size. try increasing the context size"),
        Answer(status=400, body=b'{"error": {"code": 400, "message": "?", "type": "exceed_context_size_error"}}'),
        Answer(status=400, body=b'{"error": "input length exceeds the context length"}'),
    ],
)
def test_servers_say_in_many_ways_that_a_prompt_is_too_long(connect: Connect, answer: Answer) -> None:
    with Says(lambda body: answer) as server:
        (written,) = connect(server.url).generate(["Hello"], n=2, sampling=FREE, seed=1)
        assert [completion.finish_reason for completion in written] == [FinishReason.PROMPT_TOO_LONG] * 2
        assert len(server.asked) == 1


def reply(*texts: str | None, reason: str | None = "stop", chat: bool = False, **more: Any) -> dict[str, Any]:
    key, usage = ("message", {"prompt_tokens": 7, "completion_tokens": 10})
    choices = [{"finish_reason": reason} | ({key: {"content": text}} if chat else {"text": text}) | more for text in texts]
    return {"choices": choices, "usage": usage}


def test_what_a_filter_cut_or_refused_never_wins(connect: Connect) -> None:
    refused = refusal(400, "Your prompt was flagged", code="content_policy_violation")
    with Says(lambda body: given(reply("half of", reason="content_filter"))) as cuts, Says(lambda body: refused) as refuses:
        for server, text in ((cuts, "half of"), (refuses, "")):
            ((completion,),) = connect(server.url).generate(["Hello"], n=1, sampling=FREE, seed=1)
            assert (completion.text, completion.finish_reason) == (text, FinishReason.LENGTH)


def test_faults_between_cost_time_and_nothing_else(nano: Engine, prompts: Prompts, connect: Connect) -> None:
    asked = [prompts.answer(task) for task in held_out_tasks()[:150]]
    with NanoServer(nano) as server, FaultyProxy(server.url, share=0.3, seed=5) as proxy:
        written = connect(proxy.url).generate(asked, n=4, sampling=FREE, seed=1)
    assert set(proxy.faults) == set(FaultyProxy.FAULTS)
    whole = dict(proxy.passed)
    assert len(proxy.passed) == len(whole) == len(asked)  # each prompt was answered once
    for prompt, group in zip(asked, written, strict=True):
        assert [completion.text for completion in group] == [choice["text"] for choice in whole[prompt]["choices"]]
        assert sum(completion.tokens for completion in group) == whole[prompt]["usage"]["completion_tokens"]
        assert prompt_tokens([group]) == whole[prompt]["usage"]["prompt_tokens"]


def in_turn(*answers: Answer | None) -> Callable[[dict[str, Any]], Answer | None]:
    """These answers, and the last of them for ever."""
    left = list(answers)
    return lambda body: left.pop(0) if len(left) > 1 else left[0]


def test_a_rate_limit_is_waited_for(connect: Connect) -> None:
    slow = refusal(429, "Slow down", headers={"retry-after": "1.2"})
    with Says(in_turn(slow, slow, given(reply("done")))) as server:
        started = time.monotonic()
        ((completion,),) = connect(server.url).generate(["Hello"], n=1, sampling=FREE, seed=1)
        assert completion.text == "done"
        assert 2.4 <= time.monotonic() - started < 4


def test_a_rate_limit_for_longer_than_a_request_may_take_ends_the_work(connect: Connect) -> None:
    with Says(lambda body: refusal(429, "Quota of today is used up", headers={"retry-after": "7200"})) as server:
        error = failure(connect(server.url))
        assert len(server.asked) == 1
    assert isinstance(error, EngineError)
    assert "7200" in error.message
    assert "Quota of today is used up" in error.message
    assert "engine.endpoint.concurrency" in error.hint


BROKEN = {
    "not JSON": Answer(status=200, body=b"<html>Hello</html>"),
    "half": Answer(status=200, body=b'{"choices": [{"text": "Hel'),
    "deep": Answer(status=200, body=b"[" * 100_000),
    "list": given([1, 2]),
    "no choices": given({"usage": {}}),
    "empty choices": given({"choices": []}),
    "null choice": given({"choices": [None]}),
    "null text": given(reply(None)),
    "number for a text": given({"choices": [{"text": 3, "finish_reason": "stop"}]}),
    "aborted": given(reply("Hel", reason="abort")),
    "no reason": given(reply("Hel", reason=None)),
    "text for a number": given(reply("Hello") | {"usage": {"prompt_tokens": "1", "completion_tokens": 2}}),
    "yes for a number": given(reply("Hello") | {"usage": {"prompt_tokens": True, "completion_tokens": 2}}),
    "more than there are": given(reply("Hello") | {"usage": {"prompt_tokens": 1, "completion_tokens": 10**30}}),
    "less than nothing": given(reply("Hello") | {"usage": {"prompt_tokens": 1, "completion_tokens": -2}}),
    "an error all the same": given({"error": {"message": "overloaded"}}),
    "cut": Answer(status=200, body=b'{"choices"', headers={"content-length": "999"}),
    "nothing": None,
}


def test_a_broken_answer_is_asked_for_again(connect: Connect) -> None:
    asked = Counter[str]()

    def answer(body: dict[str, Any]) -> Answer | None:
        asked[body["prompt"]] += 1
        return BROKEN[body["prompt"]] if asked[body["prompt"]] == 1 else given(reply("Hello"))

    with Says(answer) as server:
        written = connect(server.url, retries=1).generate(list(BROKEN), n=1, sampling=FREE, seed=1)
    hello = Completion(text="Hello", tokens=10, finish_reason=FinishReason.STOP, prompt_tokens=7)
    assert written == [[hello]] * len(BROKEN)
    assert asked == Counter(dict.fromkeys(BROKEN, 2))


@pytest.mark.parametrize("name", ["not JSON", "an error all the same", "cut", "nothing"])
def test_answers_that_stay_broken_end_the_work(connect: Connect, name: str) -> None:
    with Says(lambda body: BROKEN[name]) as server:
        error = failure(connect(server.url, retries=1))
        assert len(server.asked) == 2
    assert isinstance(error, EngineError)
    assert "1 retry" in error.message
    assert RESUME in error.hint
    assert name != "an error all the same" or "overloaded" in error.message


def test_an_answer_without_its_cost_is_broken_where_others_had_theirs(connect: Connect) -> None:
    silent = given({"choices": reply("?")["choices"]})
    with Says(in_turn(given(reply("one")), silent, given(reply("two")))) as server:
        engine = connect(server.url, concurrency=1)
        texts = [completion.text for (completion,) in engine.generate(["a", "b"], n=1, sampling=FREE, seed=1)]
        assert texts == ["one", "two"]
        assert len(server.asked) == 3


def test_different_faults_share_one_number_of_retries(connect: Connect) -> None:
    busy = Answer(status=503, body=b"busy")
    with Says(in_turn(busy, BROKEN["not JSON"], busy, given(reply("late")))) as server:
        assert "2 retries" in failure(connect(server.url, retries=2)).message
        assert len(server.asked) == 3
        assert server.asked[0] == server.asked[2]


def test_a_wrong_address_is_reported_at_once(connect: Connect) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    started = time.monotonic()
    for address in (url, "http://nobody.invalid/v1"):
        error = failure(connect(address))
        assert isinstance(error, EngineError)
        assert address in error.message
        assert "engine.endpoint.base_url" in error.hint
        with pytest.raises(EngineError) as caught:
            connect(address).check_connection()
        assert (caught.value.message, caught.value.hint) == (error.message, error.hint)
    assert "Connection refused" in failure(connect(url)).message
    assert time.monotonic() - started < 5


def test_an_address_that_speaks_no_tls_is_reported_at_once(nano: Engine, connect: Connect) -> None:
    with NanoServer(nano) as server:
        error = failure(connect(server.url.replace("http:", "https:")))
    assert "https://" in error.message
    assert "SSL" in error.message
    assert "engine.endpoint.base_url" in error.hint


def test_a_server_that_dies_is_reported_after_the_retries(nano: Engine, asked: list[str], connect: Connect) -> None:
    with NanoServer(nano) as server:
        engine = connect(server.url, retries=1)
        engine.generate(asked[:2], n=1, sampling=FREE, seed=1)
    error = failure(engine, asked)
    assert isinstance(error, EngineError)
    assert server.url in error.message
    assert "1 retry" in error.message
    assert RESUME in error.hint


def test_a_missing_and_a_wrong_key_are_named_and_never_shown(
    nano: Engine, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with NanoServer(nano, Manners(key=KEY)) as server:
        missing = failure(connect(server.url, key_env="NANO_KEY"))
        assert isinstance(missing, ConfigError)
        assert server.url in missing.message
        assert "NANO_KEY" in missing.hint
        monkeypatch.setenv("NANO_KEY", f" {KEY}\n")
        engine = connect(server.url, key_env="NANO_KEY")
        assert engine.generate(["Hello"], n=1, sampling=FREE, seed=1)
        assert KEY not in repr(engine)
        monkeypatch.setenv("NANO_KEY", KEY + "x")  # the server says it back
        wrong = failure(connect(server.url, key_env="NANO_KEY"))
        assert isinstance(wrong, ConfigError)
        assert wrong.message != missing.message
        assert "NANO_KEY" in wrong.hint
        assert KEY[:6] not in str(wrong)
    echo = refusal(400, "x" * (SHOWN - 10) + f" you sent {KEY}x")
    with Says(lambda body: echo) as server:
        assert KEY[:6] not in str(failure(connect(server.url, key_env="NANO_KEY")))
    assert KEY[:6] not in caplog.text


@pytest.mark.parametrize("packed", [False, True])
def test_a_server_that_never_stops(packed: bool, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flywheel.engines.openai_engine.MOST_BYTES", 10**6)
    body = json.dumps({"choices": [{"text": "x" * 10**7, "finish_reason": "stop"}]}).encode()
    headers = {"content-encoding": "gzip"} if packed else {}
    answer = Answer(status=200, body=gzip.compress(body) if packed else body, headers=headers)
    with Says(lambda body: answer) as server:
        assert "larger than 1 MB" in failure(connect(server.url, retries=0)).message


def test_a_candidate_of_more_letters_than_any_model_writes_is_cut() -> None:
    body = json.dumps({"choices": [{"text": "x" * 1_000_001, "finish_reason": "stop"}]}).encode()
    (completion,) = read_reply(body).completions(prompt="p", n=1, stop=())
    assert (len(completion.text), completion.finish_reason) == (1_000_000, FinishReason.LENGTH)


def test_openai_itself_wants_a_key(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as missing:
        connect("https://api.openai.com/v1")
    assert "OPENAI_API_KEY" in missing.value.hint
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\x01é")
    with pytest.raises(ConfigError) as invalid:
        connect("https://api.openai.com/v1")
    assert "OPENAI_API_KEY" in invalid.value.message
    assert "sk-" not in str(invalid.value)


def test_a_model_that_is_not_served_is_reported_with_those_that_are(nano: Engine, connect: Connect) -> None:
    with NanoServer(nano) as server:
        unknown = failure(connect(server.url, model="giga"))
        assert isinstance(unknown, ConfigError)
        assert "'giga'" in unknown.message
        assert "available: nano" in unknown.message
        assert "`generator`" in unknown.hint
        wrong = failure(connect(server.url.removesuffix("/v1")))
        assert isinstance(wrong, ConfigError)
        assert "404" in wrong.message
        assert "Not Found" in wrong.message
        assert "engine.endpoint.base_url" in wrong.hint


def test_a_server_that_knows_no_such_request_gets_the_address_looked_at(connect: Connect) -> None:
    with Says(lambda body: refusal(501, "Unsupported method")) as server:
        error = failure(connect(server.url, retries=0))
    assert isinstance(error, ConfigError)
    assert "501" in error.message
    assert "Unsupported method" in error.message
    assert "engine.endpoint.base_url" in error.hint


def test_what_a_server_refuses_is_reported_in_its_words_and_on_one_line(connect: Connect) -> None:
    with Says(lambda body: refusal(400, "temperature \x1b[31mtoo\thot\nTraceback: ...")) as server:
        error = failure(connect(server.url), n=2)
        assert isinstance(error, EngineError)
        assert "temperature [31mtoo hot" in error.message
        assert "engine.args" in error.hint
    no = refusal(400, "no", headers={"retry-after": "1"})
    with Says(lambda body: no) as server:
        assert "no" in failure(connect(server.url)).message
        assert len(server.asked) == 1
    with Says(lambda body: Answer(status=422, body=b'{"detail": [{"msg": "no"}]}')) as server:
        assert '[{"msg": "no"}]' in failure(connect(server.url)).message
    with Says(lambda body: refusal(403, "Your country is not supported")) as server:
        error = failure(connect(server.url))
        assert isinstance(error, ConfigError)
        assert "Your country is not supported" in error.message
    with Says(lambda body: refusal(402, "Insufficient balance")) as server:
        error = failure(connect(server.url))
        assert isinstance(error, EngineError)
        assert "402" in error.message
        assert "Insufficient balance" in error.message
    assert len(one_line("word " * 100)) == SHOWN


def test_redirects_are_reported_and_not_followed(nano: Engine, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with NanoServer(nano) as elsewhere:
        moved = Answer(status=307, body=b"", headers={"location": f"{elsewhere.url}/completions"})
        with Says(lambda body: moved) as server:
            error = failure(connect(server.url))
        assert isinstance(error, ConfigError)
        assert f"{elsewhere.url}/completions" in error.message
        assert "engine.endpoint.base_url" in error.hint
        assert not elsewhere.asked


def test_a_request_takes_no_longer_than_the_config_says(connect: Connect) -> None:
    with Says(lambda body: time.sleep(2)) as server:
        started = time.monotonic()
        assert "timed out" in failure(connect(server.url, timeout=0.3, retries=0)).message
        assert time.monotonic() - started < 1.5


def test_ctrl_c_stops_it_at_once(connect: Connect) -> None:
    released = threading.Event()
    with Says(lambda body: released.wait(20) and None) as server:
        engine = connect(server.url)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            engine.generate(["Hello"] * 50, n=1, sampling=FREE, seed=1)
        engine.close()
        assert time.monotonic() - started < 2
        released.set()


def test_a_failure_ends_what_else_is_under_way(connect: Connect) -> None:
    def answer(body: dict[str, Any]) -> Answer:
        if body["prompt"] == "bad":
            return refusal(400, "no")
        time.sleep(0.2)
        return given(reply("fine"))

    with Says(answer) as server:
        engine = connect(server.url, concurrency=2)
        assert "engine.args" in failure(engine, ["good", "bad", *(["good"] * 30)]).hint
        time.sleep(0.5)
        assert len(server.asked) < 6
        server.asked.clear()
        assert "engine.args" in failure(connect(server.url, concurrency=1), ["good", *(["bad"] * 30)]).hint
        assert len(server.asked) < 6
        assert engine.generate(["good"], n=1, sampling=FREE, seed=1)[0][0].text == "fine"


def test_it_works_in_any_thread_and_says_nothing_by_itself(
    nano: Engine, asked: list[str], connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with NanoServer(nano) as server:
        engine, written = connect(server.url, concurrency=4), []

        def work() -> None:
            written.append(engine.generate(asked, n=1, sampling=FREE, seed=1))

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [len(group) for group in written] == [len(asked)] * 2
        assert len(server.connections) <= 4
        engine.close()
        engine.close()
    assert not caplog.records


def test_the_package_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    monkeypatch.delitem(sys.modules, "flywheel.engines.openai_engine")
    with pytest.raises(EngineError) as caught:
        import flywheel.engines.openai_engine  # noqa: F401
    assert "[openai]" in caught.value.hint


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"base_url": "localhost:8000/v1"}, "engine.endpoint.base_url = 'localhost:8000/v1'"),
        ({"base_url": "http://host:port/v1"}, "base_url = 'http://host:port/v1'"),
        ({"base_url": "http://my host/v1"}, "base_url = 'http://my host/v1'"),
        ({"base_url": "http://host\x1b[2J/v1"}, "base_url = "),
        ({"base_url": f"https://me:{KEY}@host/v1"}, "base_url"),
        ({"key_env": KEY}, "key_env"),
        ({"concurrency": 0}, "concurrency"),
        ({"timeout": 0}, "timeout"),
    ],
)
def test_an_endpoint_that_makes_no_sense_is_refused(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(EngineConfig, {"name": "openai", "endpoint": raw}, "engine")
    assert message in caught.value.message
    assert KEY not in str(caught.value)


def test_fields_that_are_flywheels_are_refused(connect: Connect) -> None:
    with pytest.raises(ConfigError) as caught:
        connect("http://localhost:1/v1", args={"n": 3, "max_tokens": 5, "top_k": 1})
    assert "max_tokens, n" in caught.value.message
    assert "engine.args" in caught.value.hint


def test_the_cost_of_an_answer_is_shared_among_its_texts() -> None:
    assert shares(9, [2, 3, 4]) == [2, 3, 4]
    assert shares(10, [0, 0, 0]) == [3, 3, 4]
    assert shares(100, [1, 3]) == [25, 75]
    assert shares(0, [5]) == [0]


def test_chats_cut_while_they_think_have_no_text() -> None:
    content = json.dumps(reply(None, reason="length", chat=True)).encode()
    (completion,) = read_reply(content).completions(prompt="?", n=1, stop=())
    assert (completion.text, completion.finish_reason, completion.tokens) == ("", FinishReason.LENGTH, 10)


def test_more_choices_than_were_asked_for_still_cost_what_they_cost() -> None:
    completions = read_reply(json.dumps(reply("a", "b", "c")).encode()).completions(prompt="?", n=2, stop=())
    assert [completion.text for completion in completions] == ["a", "b"]
    assert sum(completion.tokens for completion in completions) == 10


def test_texts_can_be_stored_whatever_they_hold() -> None:
    content = b'{"choices": [{"text": "\\ud83d \\ud83d\\ude00 \\u00e9", "finish_reason": "stop"}]}'
    (completion,) = read_reply(content).completions(prompt="?", n=1, stop=())
    assert completion.text == "\ufffd \U0001f600 é"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "text", "message", "content", "finish_reason", "logprob", "logprobs", "token_logprobs", "usage"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@for_all(json_values)
def test_any_answer_is_completions_or_broken(body: object) -> None:
    choice = {"text": "", "message": {"content": ""}, "finish_reason": "stop", "logprobs": body}
    for content in (body, {"choices": [body]}, {"choices": [choice], "usage": body}, {"choices": [choice]}):
        try:
            completions = read_reply(json.dumps(content).encode()).completions(prompt="?", n=2, stop=())
        except BrokenReply:
            continue
        assert 1 <= len(completions) <= 2
