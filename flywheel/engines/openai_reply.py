"""What an OpenAI-compatible server answers, read with care: it may be anything.

Tokens are the server's own count, ``usage``, which is for the whole answer: each completion gets its share by the number of
its log-probabilities, or by the length of its text where there are none. A server that gives no usage at all is believed
the number of log-probabilities; without these, and for prompts, tokens are estimated at four characters each.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from flywheel.engines.contract import cut_at_stop
from flywheel.engines.openai_trouble import BrokenReply, said
from flywheel.records import Completion, FinishReason

UNLIKELY = 1e6
"""No log-probability is as far from 0."""
LONGEST = 1_000_000
"""Characters of a completion."""
FAILED = ("abort", "error")
"""Finish reasons of a server that could not go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The completions of one answer, and whether it said what they cost."""

    completions: list[Completion]
    usage: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    text: str
    finish_reason: FinishReason
    logprobs: list[float]

    @property
    def tokens(self) -> int:
        return len(self.logprobs) or estimate(self.text)

    @property
    def logprob(self) -> float | None:
        return sum(self.logprobs) / len(self.logprobs) if self.logprobs else None


def read(content: bytes, *, prompt: str, n: int, stop: Sequence[str], chat: bool) -> Reply:
    """At most n completions from the body of an answer; raises BrokenReply for one that makes no sense."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise BrokenReply("not JSON") from None
    if isinstance(body, dict) and body.get("error"):
        raise BrokenReply(said(body))
    rows = _field(body, "choices", list)[:n]
    if not rows:
        raise BrokenReply("no choices")
    choices = [_chat_choice(row) if chat else _choice(row) for row in rows]
    usage = body.get("usage")
    read_tokens = estimate(prompt) if usage is None else _count(usage, "prompt_tokens")
    written = sum(one.tokens for one in choices) if usage is None else _count(usage, "completion_tokens")
    completions = []
    for place, (one, tokens) in enumerate(zip(choices, shares(written, [one.tokens for one in choices]), strict=True)):
        text, reason = _bounded(*cut_at_stop(one.text, stop, one.finish_reason))
        completions.append(
            Completion(
                text=text,
                tokens=tokens,
                finish_reason=reason,
                logprob=one.logprob,
                prompt_tokens=0 if place else read_tokens,
            )
        )
    return Reply(completions=completions, usage=usage is not None)


def _bounded(text: str, reason: FinishReason) -> tuple[str, FinishReason]:
    """A text that no token limit has stopped is cut here, and so never wins."""
    return (text, reason) if len(text) <= LONGEST else (text[:LONGEST], FinishReason.LENGTH)


def names(content: bytes) -> list[str] | None:
    """The models that a server lists; None where it does not."""
    try:
        rows = json.loads(content)["data"]
        return sorted(str(row["id"]) for row in rows)
    except (ValueError, RecursionError, LookupError, TypeError):
        return None


def estimate(text: str) -> int:
    """Tokens of a text that nobody has counted."""
    return math.ceil(len(text) / 4)


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """Whole numbers that add up to the total, in proportion to the weights."""
    parts = [weight or 1 for weight in weights] if not any(weights) else weights
    whole = sum(parts)
    edges = [total * part // whole for part in accumulate(parts, initial=0)]
    return [end - start for start, end in pairwise(edges)]


def _choice(row: object) -> _Choice:
    return _Choice(text=_text(_field(row, "text", str)), finish_reason=_finish_reason(row), logprobs=_logprobs(row))


def _chat_choice(row: object) -> _Choice:
    message, reason = _field(row, "message", dict), _finish_reason(row)
    text = message.get("content")
    if text is None:
        text = message.get("refusal")
    if text is None and reason == FinishReason.LENGTH:
        text = ""  # cut while the model was still thinking, or filtered
    if not isinstance(text, str):
        raise BrokenReply("a choice without text")
    return _Choice(text=_text(text), finish_reason=reason, logprobs=_logprobs(row))


def _finish_reason(row: object) -> FinishReason:
    """*stop* where the text is whole. Anything else, such as content_filter, has cut it like the token limit: it never wins."""
    reason = _field(row, "finish_reason", str)
    if reason in FAILED:
        raise BrokenReply(f"finish_reason {reason}")
    return FinishReason.STOP if reason == "stop" else FinishReason.LENGTH


def _logprobs(row: object) -> list[float]:
    """Log-probabilities of a choice's tokens; none where they are missing or make no sense."""
    found = row.get("logprobs") if isinstance(row, dict) else None
    if not isinstance(found, dict):
        return []
    values, tokens = found.get("token_logprobs"), found.get("content")
    if isinstance(tokens, list):  # a chat's, and llama.cpp's always
        values = [token.get("logprob") if isinstance(token, dict) else None for token in tokens]
    values = values if isinstance(values, list) else []
    sound = all(isinstance(value, (int, float)) and -UNLIKELY < value < UNLIKELY for value in values)
    return [float(value) for value in values] if sound else []


def _text(text: str) -> str:
    """Half a surrogate pair, which JSON can spell, cannot be stored: it becomes the sign for a broken character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _count(usage: object, key: str) -> int:
    count = _field(usage, key, int)
    if isinstance(count, bool) or not 0 <= count < 2**31:
        raise BrokenReply(f"{key} makes no sense")
    return int(count)


def _field(of: object, key: str, kind: type) -> Any:
    value = of.get(key) if isinstance(of, dict) else None
    if not isinstance(value, kind):
        raise BrokenReply(f"no {key}" if value is None else f"{key} is {type(value).__name__}")
    return value
