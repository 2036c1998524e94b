"""What goes wrong between here and an OpenAI-compatible server, in words that are fit to be shown."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz

import openai

from flywheel.config import EndpointConfig
from flywheel.errors import ConfigError, EngineError, FlywheelError

SHOWN = 200
"""Characters of a server's words that a message shows."""
TOO_LONG = re.compile(r"context[ _](length|size|window)|exceed_context|prompt is too long|input tokens exceed")
REFUSED = re.compile(r"content_filter|content_policy_violation|invalid_prompt")
"""Codes of a prompt that a server does not answer for what it says."""


class BrokenReply(Exception):
    """An answer that is no completion: half of one, or a page of something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a request gave nothing. Holds nothing of the request itself, whose headers carry the key."""

    what: str
    """What the server or the connection says, as it came: not yet fit to be shown."""
    status: int | None = None
    """None where no answer came, or none that could be read."""
    code: str = ""
    """The names that the server has for it."""
    retries: int = 0
    """How often the request was sent again."""
    wait: float | None = None
    """Seconds after which the server wants to be asked again."""
    broken: bool = False
    unreachable: bool = False
    """Whether there is no server at all: nobody listens, or nobody is of that name."""

    @property
    def too_long(self) -> bool:
        """Whether the prompt leaves no room for an answer."""
        return self.status in (400, 413, 422) and bool(TOO_LONG.search(f"{self.code} {self.what}".lower()))

    @property
    def refused(self) -> bool:
        """Whether the server does not answer this prompt for what it says."""
        return self.status in (400, 403, 422) and bool(REFUSED.search(self.code.lower()))


def trouble_of(error: openai.APIError) -> Trouble:
    """What the client gave up on."""
    # It does not say otherwise how often it has tried.
    retries = int(error.request.headers.get("x-stainless-retry-count", "0"))
    if not isinstance(error, openai.APIStatusError):
        cause = _root(error)
        unreachable = isinstance(cause, (ConnectionRefusedError, socket.gaierror, ssl.SSLError)) or (
            type(error.__cause__).__name__ in ("ConnectTimeout", "UnsupportedProtocol")
        )
        return Trouble(what=_reason(error, cause), retries=retries, unreachable=unreachable)
    body, passes = error.body, error.status_code in (408, 409, 429) or error.status_code >= 500
    names = [str(body[key]) for key in ("code", "type", "param") if body.get(key)] if isinstance(body, dict) else []
    what = error.response.headers.get("location", "") if 300 <= error.status_code < 400 else said(body)
    return Trouble(
        what=what,
        status=error.status_code,
        code=" ".join(names),
        retries=retries,
        wait=_retry_after(error.response.headers.get("retry-after")) if passes else None,
    )


def explain(
    trouble: Trouble, *, model: str, endpoint: EndpointConfig, section: str, has_key: bool, served: Sequence[str] | None
) -> FlywheelError:
    """The error that tells a user of it; ``served`` are the models that the server lists, None where it does not.

    ``section`` of the configuration is what the endpoint is set in.
    """
    key = "generator" if section == "engine" else f"{section}.model"
    address, says = endpoint.base_url, f": {trouble.what}" if trouble.what else ""
    again = "what is done is kept, and the same command goes on"
    tried = f" after {trouble.retries} {'retry' if trouble.retries == 1 else 'retries'}" if trouble.retries else ""
    match trouble.status:
        case None if trouble.unreachable and not trouble.retries:
            return EngineError(
                f"cannot reach {address} ({trouble.what}); start its server, or mend {section}.endpoint.base_url"
            )
        case None if trouble.broken:
            return EngineError(f"{address} answers{tried} with what is no completion ({trouble.what}); see to it, {again}")
        case None:
            return EngineError(f"{address} gives no answer{tried} ({trouble.what}); see to its server, {again}")
        case 401 if not has_key:
            return ConfigError(f"{address} wants a key; put one into the environment variable {endpoint.key_env}")
        case 401:  # what the server says may hold parts of the key
            return ConfigError(f"{address} does not take the key in the environment variable {endpoint.key_env}; mend it")
        case 403:
            return ConfigError(f"{address} does not admit the key of the environment variable {endpoint.key_env}{says}")
        case 404 if served and model not in served:
            shown = one_line(", ".join(served[:8])) + (f" and {len(served) - 8} more" if len(served) > 8 else "")
            return ConfigError(f"{address} does not serve {model!r}; it serves {shown}: mend {key}")
        case 404 | 405 | 501:
            return ConfigError(
                f"{address} answers {trouble.status} for {model!r}{says}; mend {section}.endpoint.base_url (most end in "
                f"/v1), {key}, or prompt_style"
            )
        case 429:
            asked = f" and asks to wait {trouble.wait:,.0f} s" if trouble.wait else ""
            return EngineError(
                f"{address} limits the rate{tried}{asked}{says}; {again}, with a lower {section}.endpoint.concurrency "
                "if need be"
            )
        case status if status < 400:
            return ConfigError(f"{address} sends requests on to {trouble.what or '?'}; set {section}.endpoint.base_url to it")
        case status if status >= 500 or status == 408:
            return EngineError(f"{address} answers {status}{tried}{says}; see to its server, {again}")
        case 400 | 422:
            return EngineError(
                f"{address} refuses a request for {model!r}{says}; mend sampling, prompt_style or {section}.args"
            )
        case status:
            return EngineError(f"{address} answers {status} to a request for {model!r}{says}; {again}")


def one_line(text: str) -> str:
    """The first line of a text that somebody else wrote, fit for a terminal."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in line).split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"


def said(body: object) -> str:
    """The message in the body of a refusal, in whichever of the usual places it is; nothing of a web page."""
    while isinstance(body, dict) and (
        found := next((body[key] for key in ("error", "message", "detail") if body.get(key)), None)
    ):
        body = found
    if isinstance(body, str):
        return "" if body.lstrip().startswith("<") else body
    return json.dumps(body) if body else ""


def _root(error: BaseException) -> BaseException:
    """What an error goes back to: what the system said."""
    while isinstance(error, BaseExceptionGroup) or error.__cause__ or error.__context__:
        below = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__ or error.__context__
        assert below is not None
        error = below
    return error


def _reason(error: openai.APIError, cause: BaseException) -> str:
    if isinstance(error, openai.APITimeoutError):
        return "no answer in time"
    if isinstance(cause, ConnectionError) and cause.errno:
        return os.strerror(cause.errno)
    words = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return words or "the connection was cut"


def _retry_after(header: str | None) -> float | None:
    """Seconds of a Retry-After header, which may also be a date."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        date = parsedate_tz(header)
        seconds = mktime_tz(date) - time.time() if date else -1.0
    return seconds if 0 < seconds < float("inf") else None
