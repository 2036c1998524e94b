"""Servers for tests: an OpenAI-compatible one over the real nano generator, and a proxy that spoils some of its answers."""

from __future__ import annotations

import http.client
import json
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self

from transformers import AutoTokenizer

from flywheel.core.assets import asset
from flywheel.engines.contract import Engine, Sampling
from flywheel.records import Completion, FinishReason

NANO = asset("data/nano/generator")
CONTEXT = 512
"""Tokens that nano reads and writes together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """What a server takes and gives; as it stands, all that OpenAI's does."""

    key: str | None = None
    choices: str = "all"
    """What ``n`` does: all that are asked for, ``one`` whatever is asked for, or ``refused`` where it is more than one."""
    logprobs: str = "given"
    """``given``, ``ignored`` or ``refused``."""
    usage: bool = True
    thinks: bool = False
    """Takes max_completion_tokens only, as models that reason do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back over the wire."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Server:
    """A HTTP server on a free port of this machine; its requests and the connections they came by are counted."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.connections: set[Any] = set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm: ClassVar[bool] = True

            def do_GET(self) -> None:
                server.paths.append(self.path)
                server.connections.add(self.client_address)
                self.give(server.get(self))

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"]))
                server.paths.append(self.path)
                server.connections.add(self.client_address)
                server.asked.append(json.loads(content))
                self.give(server.post(self, content))

            def give(self, answer: Answer | None) -> None:
                if answer is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(answer.status)
                for name, value in {"content-type": "application/json", **answer.headers}.items():
                    self.send_header(name, value)
                if "content-length" not in answer.headers:
                    self.send_header("content-length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)
                if "content-length" in answer.headers:  # it promised more than it has
                    self.close_connection = True

            def log_message(self, *arguments: object) -> None:
                """Nothing is printed."""

        class Listener(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

            def handle_error(self, *arguments: Any) -> None:
                """A client that went away is no news."""
                if not isinstance(sys.exception(), OSError | ValueError):  # ValueError: its file is closed already
                    super().handle_error(*arguments)

        self._listener = Listener(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._listener.server_port}/v1"
        threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True).start()

    def get(self, request: BaseHTTPRequestHandler) -> Answer | None:
        return refusal(404, "Not Found")

    def post(self, request: BaseHTTPRequestHandler, content: bytes) -> Answer | None:
        raise NotImplementedError

    def stop(self) -> None:
        self._listener.shutdown()
        self._listener.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


class Says(Server):
    """Answers every request with what a function makes of it; None cuts the connection."""

    def __init__(self, answer: Callable[[dict[str, Any]], Answer | None]) -> None:
        self._answer = answer
        super().__init__()

    def post(self, request: BaseHTTPRequestHandler, content: bytes) -> Answer | None:
        return self._answer(json.loads(content))


class NanoServer(Server):
    """Completions and chat of the nano generator, through an engine of flywheel; keeps what it wrote for each prompt."""

    def __init__(self, engine: Engine, manners: Manners | None = None) -> None:
        self._engine, self._manners = engine, manners or Manners()
        self._tokenizer = AutoTokenizer.from_pretrained(NANO)
        self._one_at_a_time, self._seeds = threading.Lock(), random.Random(1)
        self.written: list[tuple[str, list[Completion]]] = []
        super().__init__()

    def get(self, request: BaseHTTPRequestHandler) -> Answer:
        if request.path != "/v1/models":
            return refusal(404, "Not Found")
        return self._unknown(request) or given({"object": "list", "data": [{"id": "nano", "object": "model"}]})

    def post(self, request: BaseHTTPRequestHandler, content: bytes) -> Answer:
        body = json.loads(content)
        if unknown := self._unknown(request):
            return unknown
        if request.path not in ("/v1/completions", "/v1/chat/completions"):
            return refusal(404, "Not Found")
        if body["model"] != "nano":
            return refusal(404, f"The model `{body['model']}` does not exist.", code="model_not_found")
        chat = request.path.endswith("/chat/completions")
        prompt = body["messages"][0]["content"] if chat else body["prompt"]
        return self._refuse(body, prompt) or self._write(body, prompt, chat=chat)

    def _unknown(self, request: BaseHTTPRequestHandler) -> Answer | None:
        key = self._manners.key
        if key is None or request.headers["authorization"] == f"Bearer {key}":
            return None
        return refusal(401, f"Incorrect API key provided: {request.headers['authorization']}", code="invalid_api_key")

    def _refuse(self, body: dict[str, Any], prompt: str) -> Answer | None:
        manners = self._manners
        if manners.thinks and "max_tokens" in body:
            return refusal(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", param="max_tokens")
        if manners.choices == "refused" and body.get("n", 1) > 1:
            return refusal(400, "Only one is given")
        if manners.logprobs == "refused" and "logprobs" in body:
            return refusal(400, "This model does not support logprobs", param="logprobs")
        if len(body.get("stop", ())) > 4:
            return refusal(400, "At most 4 stop strings", param="stop")
        asked = len(self._tokenizer(prompt).input_ids) + self._limit(body)
        if asked > CONTEXT:
            return refusal(
                400,
                f"This model's maximum context length is {CONTEXT} tokens, however you requested {asked} tokens",
                code="context_length_exceeded",
            )
        return None

    def _limit(self, body: dict[str, Any]) -> int:
        return int(body["max_completion_tokens" if self._manners.thinks else "max_tokens"])

    def _write(self, body: dict[str, Any], prompt: str, *, chat: bool) -> Answer:
        manners = self._manners
        sampling = Sampling(
            temperature=body["temperature"],
            top_p=body.get("top_p", 1.0),
            max_tokens=self._limit(body),
            stop=tuple(body.get("stop", ())),
        )
        n = 1 if manners.choices == "one" else body.get("n", 1)
        with self._one_at_a_time:
            seed = body.get("seed", self._seeds.getrandbits(31))
            (written,) = self._engine.generate([prompt], n=n, sampling=sampling, seed=seed)
            self.written.append((prompt, written))
        logprobs = manners.logprobs == "given" and bool(body.get("logprobs"))
        reply: dict[str, Any] = {
            "object": "chat.completion" if chat else "text_completion",
            "choices": [choice(completion, place, chat=chat, logprobs=logprobs) for place, completion in enumerate(written)],
        }
        if manners.usage:
            reply["usage"] = {
                "prompt_tokens": len(self._tokenizer(prompt).input_ids),
                "completion_tokens": sum(completion.tokens for completion in written),
            }
        return given(reply)


class FaultyProxy(Server):
    """Passes requests on to a server, and spoils a share of the answers: which and how is drawn from a seed."""

    FAULTS = (
        *("delay", "cut before", "cut in the middle", "rate limit", "500", "502", "503"),
        *("a web page", "half of it", "no choices", "null text", "no usage", "wrong types"),
    )

    def __init__(self, url: str, *, share: float, seed: int) -> None:
        self._host, self._share, self._random = url.removeprefix("http://").removesuffix("/v1"), share, random.Random(seed)
        self._lock = threading.Lock()
        self.faults: list[str] = []
        self.passed: list[tuple[str, dict[str, Any]]] = []
        """Prompts and the answers to them that went through whole."""
        super().__init__()

    def get(self, request: BaseHTTPRequestHandler) -> Answer:
        return self._forward(request, None)

    def post(self, request: BaseHTTPRequestHandler, content: bytes) -> Answer | None:
        with self._lock:
            fault = self._random.choice(self.FAULTS) if self._random.random() < self._share else None
            self.faults += [fault] if fault else []
        match fault:
            case "cut before":
                return None
            case "rate limit":
                return refusal(429, "Slow down", headers={"retry-after": "0.3"})
            case "500" | "502" | "503":
                return Answer(status=int(fault), body=b"<html>busy</html>", headers={"content-type": "text/html"})
            case "a web page":
                return Answer(status=200, body=b"<html>Welcome!</html>", headers={"content-type": "text/html"})
        answer = self._forward(request, content)
        if fault == "delay":
            time.sleep(0.3)
        if fault in (None, "delay") or answer.status != 200:
            body = json.loads(content)
            with self._lock:
                self.passed.append((body.get("prompt") or body["messages"][0]["content"], json.loads(answer.body)))
            return answer
        return Answer(status=200, body=spoiled(answer.body, fault), headers=whole_length(answer.body, fault))

    def _forward(self, request: BaseHTTPRequestHandler, content: bytes | None) -> Answer:
        connection = http.client.HTTPConnection(self._host, timeout=60)
        headers = {name: value for name, value in request.headers.items() if name.lower() in ("authorization", "content-type")}
        try:
            connection.request(request.command, request.path, body=content, headers=headers)
            answer = connection.getresponse()
            return Answer(status=answer.status, body=answer.read())
        except OSError:
            return refusal(502, "nobody there")
        finally:
            connection.close()


def spoiled(body: bytes, fault: str) -> bytes:
    """An answer with something wrong in it."""
    reply = json.loads(body)
    match fault:
        case "cut in the middle" | "half of it":
            return body[: len(body) // 2]
        case "no choices":
            reply["choices"] = []
        case "null text":
            reply["choices"][-1] |= {"text": None, "message": {"role": "assistant", "content": None}}
        case "no usage":
            del reply["usage"]
        case "wrong types":
            reply["usage"]["completion_tokens"] = "many"
    return json.dumps(reply).encode()


def whole_length(body: bytes, fault: str) -> dict[str, str]:
    """Headers that promise the whole of an answer, where the connection is cut in the middle of it."""
    return {"content-length": str(len(body))} if fault == "cut in the middle" else {}


def given(reply: object) -> Answer:
    return Answer(status=200, body=json.dumps(reply).encode())


def refusal(
    status: int, message: str, *, code: str | None = None, param: str | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """An error as OpenAI words it."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return Answer(status=status, body=json.dumps({"error": error}).encode(), headers=headers or {})


def choice(completion: Completion, place: int, *, chat: bool, logprobs: bool) -> dict[str, Any]:
    """A completion as OpenAI words it; the mean of its log-probabilities stands for each of them."""
    reason = "stop" if completion.finish_reason == FinishReason.STOP else "length"
    values = [completion.logprob] * completion.tokens if logprobs else None
    if chat:
        tokens = values and {"content": [{"token": "?", "logprob": value} for value in values]}
        message = {"role": "assistant", "content": completion.text}
        return {"index": place, "message": message, "finish_reason": reason, "logprobs": tokens}
    return {"index": place, "text": completion.text, "finish_reason": reason, "logprobs": values and {"token_logprobs": values}}
