"""What goes wrong with an OpenAI-compatible server: as a record, and as the error that the user sees."""

from __future__ import annotations

import json
import math
import os
import random
import re
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz

import openai

from flywheel.errors import RESUME, ConfigError, EngineError, FlywheelError

SHOWN = 200
"""Characters of a server's message that ours shows."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
"""Seconds before the first and the last retries, where the server asks for no other wait."""
TOO_LONG = re.compile(r"context[ _](length|size|window)|exceed_context|prompt is too long|input tokens exceed")
REFUSED = re.compile(r"content_filter|content_policy_violation|invalid_prompt")
STATUS_KINDS = {400: "rejected", 401: "wrong key", 403: "denied", 404: "not found", 405: "not found", 422: "rejected",
                429: "rate limit", 501: "not found"}  # fmt: skip
EXPLANATIONS: Mapping[str, tuple[type[FlywheelError], str, str]] = {
    "unreachable": (EngineError, "cannot connect to {url}{reason}", "Start the server or fix `{section}.endpoint.base_url`."),
    "no reply": (EngineError, "{url} sent no completion{retried}{reason}", f"Check the server. {RESUME}"),
    "redirect": (ConfigError, "{url} redirects requests{reason}", "Set `{section}.endpoint.base_url` to the new address."),
    "no key": (ConfigError, "{url} requires an API key", "Set the environment variable {key_env}."),
    # Without the server's message, which may quote parts of the key.
    "wrong key": (ConfigError, "{url} rejected the API key", "Fix the environment variable {key_env}."),
    "denied": (ConfigError, "{url} denied access{reason}", "Check the permissions of the key in {key_env}."),
    "not served": (ConfigError, "{url} does not serve {model!r}; available: {served}", "Fix {model_key}."),
    "not found": (
        ConfigError,
        "{url} returned {status} for {model!r}{reason}",
        "Check `{section}.endpoint.base_url` (most end in /v1), {model_key} and `prompt_style`.",
    ),
    "rejected": (
        EngineError,
        "{url} rejected a request for {model!r}{reason}",
        "Check `sampling`, `prompt_style` and `{section}.args`.",
    ),
    "rate limit": (
        EngineError,
        "{url} limits the rate of requests{wait}{retried}{reason}",
        f"{RESUME} Lower `{{section}}.endpoint.concurrency` if this happens again.",
    ),
    "failed": (EngineError, "{url} returned {status} for {model!r}{retried}{reason}", f"Check the server. {RESUME}"),
}
"""The error for each kind of failure: its type, message and hint."""


class BrokenReply(Exception):
    """A successful response that is no completion, such as a truncated one or a web page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a request gave no completions. Holds nothing of the request itself, whose headers carry the key."""

    kind: str
    """A key of `EXPLANATIONS`; or ``prompt too long`` or ``prompt refused``, which end no work."""
    message: str
    """What the server or the connection reports, unfiltered."""
    status: int | None = None
    code: str = ""
    """The server's names for the error."""
    retryable: bool = True
    retry_after: float | None = None
    """Seconds that the server asks to wait."""

    def delay(self, retries: int, longest: float) -> float | None:
        """Seconds to wait before the next retry; None where a retry is pointless or would have to wait too long."""
        if not self.retryable or (self.retry_after or 0.0) > longest:
            return None
        return self.retry_after or min(FIRST_WAIT * 2**retries, LONGEST_WAIT) * random.uniform(0.75, 1)


def failure_of(error: openai.APIError | BrokenReply) -> Failure:
    """The record of an exception."""
    if isinstance(error, BrokenReply):
        return Failure(kind="no reply", message=str(error))
    if not isinstance(error, openai.APIStatusError):
        cause = _root_cause(error)
        unreachable = isinstance(cause, ConnectionRefusedError | socket.gaierror | ssl.SSLError) or (
            type(error.__cause__).__name__ in ("ConnectTimeout", "UnsupportedProtocol")
        )
        message = cause.strerror if isinstance(cause, OSError) else None
        if isinstance(cause, ConnectionError) and cause.errno:  # asyncio puts an address here
            message = os.strerror(cause.errno)
        if isinstance(error, openai.APITimeoutError):
            message = "request timed out"
        return Failure(
            kind="unreachable" if unreachable else "no reply",
            message=message or str(cause) or "connection closed",
            retryable=not unreachable,
        )
    status, headers, body = error.status_code, error.response.headers, error.body
    message = headers.get("location", "") if status < 400 else server_message(body)
    code = " ".join(str(body[key]) for key in ("code", "type", "param") if body.get(key)) if isinstance(body, dict) else ""
    kind = STATUS_KINDS.get(status, "redirect" if status < 400 else "failed")
    if status in (400, 413, 422) and TOO_LONG.search(f"{code} {message}".lower()):
        kind = "prompt too long"
    elif status in (400, 403, 422) and REFUSED.search(code.lower()):
        kind = "prompt refused"
    transient, advice = status in (408, 409, 429) or status >= 500, headers.get("x-should-retry")
    retry_after = _retry_after(headers.get("retry-after", "")) if transient else None
    retryable = advice == "true" or (transient and (advice != "false" or retry_after is not None))
    return Failure(kind=kind, message=message, status=status, code=code, retryable=retryable, retry_after=retry_after)


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


def _root_cause(error: BaseException) -> BaseException:
    group = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
    cause = group or error.__cause__ or error.__context__
    return error if cause is None else _root_cause(cause)


def _retry_after(header: str) -> float | None:
    """Seconds of a Retry-After header, which may also be a date."""
    try:
        seconds = float(header)
    except ValueError:
        date = parsedate_tz(header)
        seconds = mktime_tz(date) - time.time() if date else 0.0
    return seconds if 0 < seconds < math.inf else None
