"""Prompts as tokens and completions as texts, the same for all engines."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flywheel.engines.contract import Sampling
from flywheel.errors import ModelError
from flywheel.records import Completion, FinishReason


def cut_at_stop(text: str, stop: Sequence[str], finish_reason: FinishReason) -> tuple[str, FinishReason]:
    """The text before the first stop string, which counts as the model's own end."""
    positions = [position for position in (text.find(string) for string in stop) if position >= 0]
    return (text[: min(positions)], FinishReason.STOP) if positions else (text, finish_reason)


def too_long(n: int) -> list[Completion]:
    """The completions of a prompt that leaves no room for an answer."""
    return [Completion(text="", tokens=0, finish_reason=FinishReason.PROMPT_TOO_LONG)] * n


def context_length(model: Path) -> int:
    """Tokens of prompt and answer that a model takes together, by its config; unlimited if that does not say."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config", config)
    keys = ("max_position_embeddings", "n_positions", "n_ctx")
    return int(next((config[key] for key in keys if config.get(key)), sys.maxsize))


class Reader:
    """Reads prompts and completions with a model's tokenizer."""

    def __init__(self, model: Path, tokenizer: Any, *, context: int | None = None) -> None:
        """``context`` is the model's own by default. Raises ModelError without an end-of-text token: no text would ever end."""
        if tokenizer.eos_token is None:
            raise ModelError(f"the tokenizer of {model} has no eos_token", "Add `eos_token` to its tokenizer_config.json.")
        self.tokenizer, self._context = tokenizer, context or context_length(model)
        path = model / "generation_config.json"
        ends = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.exists() else None
        self.ends = sorted({tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None})
        """The tokens that end a completion: the tokenizer's, and those of the model's generation_config."""

    def read(self, prompts: Sequence[str], sampling: Sampling) -> tuple[list[list[int]], list[int]]:
        """The tokens of prompts, and the positions of those that leave room for an answer of the allowed length."""
        tokenizer = self.tokenizer
        # An empty prompt becomes the start token, for a model must read something.
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        rows = [list(ids) or [start] for ids in tokenizer(list(prompts)).input_ids]
        return rows, [place for place, ids in enumerate(rows) if len(ids) + sampling.max_tokens <= self._context]

    def completion(self, ids: Sequence[int], text: str, logprob: float, sampling: Sampling) -> Completion:
        """The completion of these tokens, whose text may go on after a stop string."""
        reason = FinishReason.STOP if ids and ids[-1] in self.ends else FinishReason.LENGTH
        text, reason = cut_at_stop(text, sampling.stop, reason)
        return Completion(text=text, tokens=len(ids), finish_reason=reason, logprob=logprob)
