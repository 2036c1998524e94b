"""What is asked of an OpenAI-compatible server, in the words that it takes.

All servers take the same few fields, and each refuses or ignores some of the rest. So a request begins with what most of
them take, and what a server refuses is left out from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flywheel.engines.contract import Sampling
from flywheel.engines.openai_reply import Reply
from flywheel.engines.openai_trouble import Trouble

STOPS = 4
"""OpenAI takes no more stop strings; texts are cut at all of them when they are here."""
OURS = frozenset(
    ("model", "prompt", "messages", "n", "best_of", "echo", "stream", "stop", "seed", "max_tokens", "max_completion_tokens")
)
"""Fields that a config may not set: the completions would not be those that were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What a server takes, as far as it has shown."""

    choices: int
    """Completions that one request may ask for."""
    # OpenAI, vLLM, llama.cpp and Ollama all take max_tokens. Ollama does not know its heir, max_completion_tokens, and would
    # write without end; OpenAI's reasoning models take nothing but the heir, and say so.
    limit: str = "max_tokens"
    logprobs: bool = True
    usage: bool = False
    """Whether its answers say what they cost: one that does not is broken then."""

    def fields(self, *, n: int, sampling: Sampling, seed: int | None, chat: bool, args: Mapping[str, Any]) -> dict[str, Any]:
        """A request's fields beside model and prompt; a null in ``args`` leaves one out."""
        fields = {
            "n": n if n > 1 else None,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self.limit: sampling.max_tokens,
            "stop": list(sampling.stop[:STOPS]) or None,
            "seed": seed,
        }
        if self.logprobs and args.get("logprobs", True) is not None:
            # llama.cpp gives none for 0, and twenty for each token where a chat does not say how many.
            fields |= {"logprobs": True, "top_logprobs": 1} if chat else {"logprobs": 1}
        return {name: value for name, value in (fields | dict(args)).items() if value is not None}

    def shown(self, reply: Reply, n: int) -> Dialect:
        """What an answer to a request for n completions has shown: some servers give one, whatever they are asked for."""
        given = len(reply.completions)
        return replace(self, usage=reply.usage, choices=min(self.choices, given) if given < n else self.choices)

    def after(self, refusal: Trouble, n: int) -> Dialect | None:
        """What to try once a request for n completions is refused; None where there is nothing to leave out."""
        words = f"{refusal.code} {refusal.what}".lower()
        if refusal.status not in (400, 403, 422, 500, 501):
            return None
        if self.limit == "max_tokens" and "max_completion_tokens" in words:
            return replace(self, limit="max_completion_tokens")
        if self.logprobs and "logprob" in words:
            return replace(self, logprobs=False)
        # llama.cpp used to call this an error of its own.
        if n > 1 and (refusal.status in (400, 422) or "completion choice" in words):
            return replace(self, choices=1)
        return None
