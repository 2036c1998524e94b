"""The requests that OpenAI-compatible servers take, and the replies that they send, which may be anything.

All servers take the same few fields, and each rejects or ignores some of the rest: a request starts with what most of them
take, and a field that the server rejects is left out from then on.

Token counts come from the server's ``usage``, which covers the whole reply: each completion gets its share by the number of
its log-probabilities, or by the length of its text where there are none. Without ``usage`` the number of log-probabilities
counts; without these, and for prompts, a token is estimated at four characters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from flywheel.engines.contract import Sampling
from flywheel.engines.openai_errors import BrokenReply, Failure, server_message
from flywheel.engines.texts import cut_at_stop
from flywheel.records import Completion, FinishReason

STOPS = 4
"""OpenAI takes no more stop strings; the reader cuts at all of them."""
RESERVED = frozenset(
    ("model", "prompt", "messages", "n", "best_of", "echo", "stream", "stop", "seed", "max_tokens", "max_completion_tokens")
)
"""Fields that ``engine.args`` must not set."""
LIMIT = 1e6
"""What no log-probability reaches."""
LONGEST = 1_000_000
"""Characters of a completion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What a server takes, as far as its replies have shown."""

    choices: int
    """Completions that one request may ask for."""
    # OpenAI, vLLM, llama.cpp and Ollama all take max_tokens. Ollama ignores its successor, max_completion_tokens, and would
    # generate without limit; OpenAI's reasoning models take only the successor, and their error names it.
    limit: str = "max_tokens"
    logprobs: bool = True

    def fields(self, *, n: int, sampling: Sampling, seed: int | None, chat: bool, args: Mapping[str, Any]) -> dict[str, Any]:
        """A request's fields besides model and prompt; a null in ``args`` leaves one out."""
        fields = {
            "n": n if n > 1 else None,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self.limit: sampling.max_tokens,
            "stop": list(sampling.stop[:STOPS]) or None,
            "seed": seed,
        }
        if self.logprobs and args.get("logprobs", True) is not None:
            # llama.cpp returns none for 0, and twenty a token where a chat request does not say how many.
            fields |= {"logprobs": True, "top_logprobs": 1} if chat else {"logprobs": 1}
        return {name: value for name, value in (fields | dict(args)).items() if value is not None}

    def after_failure(self, failure: Failure, n: int) -> Dialect | None:
        """What to try once a request for n completions was rejected; None where nothing can be left out."""
        words = f"{failure.code} {failure.message}".lower()
        if failure.status not in (400, 403, 422, 500, 501):
            return None
        if self.limit == "max_tokens" and "max_completion_tokens" in words:
            return replace(self, limit="max_completion_tokens")
        if self.logprobs and "logprob" in words:
            return replace(self, logprobs=False)
        # Older llama.cpp servers report this with a status of 500.
        return replace(self, choices=1) if n > 1 and (failure.status in (400, 422) or "completion choice" in words) else None


def _storable(value: object) -> object:
    """Half a surrogate pair, which JSON can spell and nothing can store, becomes the replacement character."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_storable)]
Count = Annotated[int, Field(strict=True, ge=0, lt=2**31)]


class _Message(BaseModel):
    content: Text | None = None
    refusal: Text | None = None


class _Choice(BaseModel):
    text: Text | None = None
    message: _Message | None = None
    """A chat's text."""
    finish_reason: Text
    logprobs: Any = None

    @model_validator(mode="after")
    def _take_text(self) -> Self:
        """Put a chat's text where a completion has its own."""
        if self.message is not None:
            self.text = self.message.refusal if self.message.content is None else self.message.content
            if self.text is None and self.finish_reason != "stop":
                self.text = ""  # cut while the model was still thinking, or filtered
        if self.text is None or self.finish_reason in ("abort", "error"):
            raise ValueError(f"no text, finish_reason {self.finish_reason}")
        return self


class _Usage(BaseModel):
    prompt_tokens: Count
    completion_tokens: Count


class Reply(BaseModel):
    """The body of a response."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None

    def completions(self, *, prompt: str, n: int, stop: Sequence[str]) -> list[Completion]:
        """At most n completions of the prompt."""
        completions = [_completion(choice, stop) for choice in self.choices[:n]]
        weights = [completion.tokens for completion in completions]
        counts = shares(self.usage.completion_tokens, weights) if self.usage else weights
        completions = [replace(completion, tokens=count) for completion, count in zip(completions, counts, strict=True)]
        prompt_tokens = self.usage.prompt_tokens if self.usage else estimate(prompt)
        completions[0] = replace(completions[0], prompt_tokens=prompt_tokens)
        return completions


def read_reply(content: bytes) -> Reply:
    """A reply with completions; raises BrokenReply for anything else."""
    try:
        raw = json.loads(content)
        if isinstance(raw, dict) and raw.get("error"):
            raise BrokenReply(server_message(raw))
        return Reply.model_validate(raw)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        raise BrokenReply(f"{'.'.join(map(str, problem['loc'])) or 'body'}: {problem['msg']}") from None
    except (ValueError, RecursionError):
        raise BrokenReply("the response is not JSON") from None


def estimate(text: str) -> int:
    """The approximate number of tokens of a text."""
    return math.ceil(len(text) / 4)


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """Whole numbers that add up to the total, in proportion to the weights."""
    parts = weights if any(weights) else [1] * len(weights)
    edges = [total * part // sum(parts) for part in accumulate(parts, initial=0)]
    return [end - start for start, end in pairwise(edges)]


def _completion(choice: _Choice, stop: Sequence[str]) -> Completion:
    """A choice whose tokens are counted by its log-probabilities, or estimated.

    Any finish reason but *stop*, such as content_filter, means that the text was cut: it never wins.
    """
    text, reason = choice.text or "", FinishReason.STOP if choice.finish_reason == "stop" else FinishReason.LENGTH
    logprobs = _logprobs(choice.logprobs)
    tokens, logprob = len(logprobs) or estimate(text), sum(logprobs) / len(logprobs) if logprobs else None
    text, reason = cut_at_stop(text, stop, reason)
    if len(text) > LONGEST:  # no token limit stopped it
        text, reason = text[:LONGEST], FinishReason.LENGTH
    return Completion(text=text, tokens=tokens, finish_reason=reason, logprob=logprob)


def _logprobs(logprobs: Any) -> list[float]:
    """Log-probabilities of a choice's tokens; empty where they are missing or implausible."""
    fields = logprobs if isinstance(logprobs, dict) else {}
    values, tokens = fields.get("token_logprobs"), fields.get("content")  # the latter a chat's, and llama.cpp's always
    if isinstance(tokens, list):
        values = [token.get("logprob") if isinstance(token, dict) else None for token in tokens]
    if not isinstance(values, list) or not all(isinstance(value, int | float) and abs(value) < LIMIT for value in values):
        return []
    return [float(value) for value in values]
