"""What goes wrong with an OpenAI-compatible server: as a record, and as the error that the user sees."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import httpx2
import openai

from flywheel.config import EndpointConfig
from flywheel.errors import RESUME, ConfigError, EngineError, FlywheelError
from flywheel.records import FinishReason

SHOWN = 200
"""Characters of a server's message that ours shows."""
TOO_LONG = re.compile(r"context[ _](length|size|window)|exceed_context|prompt is too long|input tokens exceed")
REFUSED = re.compile(r"content_filter|content_policy_violation|invalid_prompt")


class Unreachable(openai.APIConnectionError):
    """No server at the address; the openai client does not retry its own exceptions."""


class BrokenReply(httpx2.RemoteProtocolError):
    """A successful response that is no completion, such as a truncated one or a web page; the openai client retries it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a request gave no completions. Holds nothing of the request itself, whose headers carry the key."""

    message: str
    """What the server or the connection reports, unfiltered."""
    retries: int
    status: int | None = None
    """None where there was no response, or a broken one."""
    code: str = ""
    """The server's names for the error."""
    unreachable: bool = False
    wait: str = ""
    """The Retry-After header."""

    @property
    def finish_reason(self) -> FinishReason | None:
        """How the completions end where only this prompt failed: it is too long, or a content filter refused it."""
        if self.status in (400, 413, 422) and TOO_LONG.search(f"{self.code} {self.message}".lower()):
            return FinishReason.PROMPT_TOO_LONG
        return FinishReason.LENGTH if self.status in (400, 403, 422) and REFUSED.search(self.code.lower()) else None


def failure_of(error: openai.APIError) -> Failure:
    """The record of an exception."""
    retries = int(error.request.headers.get("x-stainless-retry-count", 0))
    if not isinstance(error, openai.APIStatusError):
        return Failure(message=_reason(error), retries=retries, unreachable=isinstance(error, Unreachable))
    status, headers, body = error.status_code, error.response.headers, error.body
    code = " ".join(str(body[key]) for key in ("code", "type", "param") if body.get(key)) if isinstance(body, dict) else ""
    message = headers.get("location", "") if status < 400 else server_message(body)
    return Failure(message=message, retries=retries, status=status, code=code, wait=headers.get("retry-after", ""))


def error_of(
    failure: Failure, *, endpoint: EndpointConfig, model: str, section: str, key: str | None, served: Sequence[str] = ()
) -> FlywheelError:
    """The user's error for a failure; ``served`` are the models that the server lists."""
    url, key_env, base_url = endpoint.base_url, endpoint.key_env, f"`{section}.endpoint.base_url`"
    model_key, style, fields = f"`{section}.model`", "", f"`temperature`, `max_tokens` and `args` of `{section}`"
    if section == "engine":
        model_key, style = "`generator`", ", `prompt_style`"
        fields = "`sampling`, `instructions`, `engine.args` and `prompt_style`"
    message = one_line(failure.message.replace(key, "***") if key else failure.message)  # a server may quote the key
    reason = f": {message}" if message else ""
    retried = f" after {failure.retries} {'retry' if failure.retries == 1 else 'retries'}" if failure.retries else ""
    kind: type[FlywheelError]
    check_server = f"Check the server's log. {RESUME}"
    match failure.status:
        case None if failure.unreachable:
            return EngineError(f"cannot connect to {url}{reason}", f"Start the server or fix {base_url}.")
        case None:
            return EngineError(f"{url} returned no completion{retried}{reason}", check_server)
        case 401:  # without the server's message, which may quote parts of the key
            problem = "requires an" if key is None else "rejected the"
            return ConfigError(f"{url} {problem} API key", f"Set the environment variable {key_env} to a valid API key.")
        case 404 if served and model not in served:
            available = one_line(", ".join(served))
            return ConfigError(f"{url} does not serve {model!r}; available: {available}", f"Set {model_key} to one of these.")
        case 429 if "insufficient_quota" in failure.code:
            return EngineError(f"quota of {url} exceeded{reason}", f"Add credit to the account of {key_env}. {RESUME}")
        case 429:
            wait = f" (Retry-After: {one_line(failure.wait)})" if failure.wait else ""
            hint = f"{RESUME} Lower `{section}.endpoint.concurrency` if this happens again."
            return EngineError(f"rate limit of {url} exceeded{wait}{retried}{reason}", hint)
        case 403:
            kind, hint = ConfigError, f"Check the permissions of the key in {key_env}."
        case 404 | 405 | 501:
            kind, hint = ConfigError, f"Check {base_url} (most end in /v1){style} and {model_key}."
        case 400 | 422:
            kind, hint = EngineError, f"Check {fields}."
        case status if status < 400:
            kind, hint = ConfigError, f"Set {base_url} to the address that the server redirects to."
        case _:
            kind, hint = EngineError, check_server
    return kind(f"{url} returned {failure.status} for {model!r}{retried}{reason}", hint)


def one_line(text: str) -> str:
    """The first line of a foreign text, printable and at most `SHOWN` characters long."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in line).split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"


def server_message(body: object) -> str:
    """The message in the body of an error response, at any of the usual places; empty for a web page."""
    while isinstance(body, dict) and (
        inner := next((body[key] for key in ("error", "message", "detail") if body.get(key)), None)
    ):
        body = inner
    if isinstance(body, str):
        return "" if body.lstrip().startswith("<") else body
    return json.dumps(body) if body else ""


def _reason(error: BaseException) -> str:
    """What the exception at the root of a connection error says."""
    if isinstance(error, openai.APITimeoutError):
        return "request timed out"
    cause = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__ or error.__context__
    if cause is not None and not isinstance(error, BrokenReply):
        return _reason(cause)
    if isinstance(error, ConnectionError) and error.errno:  # asyncio puts an address into its message
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error) or "connection closed"
