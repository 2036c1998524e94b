"""What an engine is: text in, text out. Pure helpers that every engine shares."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from flywheel.records import Completion, FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How texts are drawn. Temperature must be above 0."""

    temperature: float
    top_p: float
    max_tokens: int
    stop: tuple[str, ...] = ()
    """The text ends before the first of these; the text before it counts as finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of an engine in one go: n completions of each prompt."""

    prompts: Sequence[str]
    n: int
    sampling: Sampling
    seed: int


Completions = Sequence[Sequence[Completion]]
"""The completions of each prompt of a request."""
Write = Callable[[Iterable[Request]], Generator[Completions]]
"""Writes what is asked for, in the order of the requests. Further requests may be begun before the first one's texts are
taken, so a request must not depend on them; whoever needs no more closes the iterator."""


class Engine(Protocol):
    """Runs one generator."""

    @property
    def name(self) -> str:
        """As the config names it."""
        ...

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """Return n completions of each prompt, in the order of the prompts.

        The same model, prompts, n, sampling and seed give the same completions, whatever was written before and on any
        number of workers; behind an endpoint that is its server's affair. A prompt that leaves no room for
        ``sampling.max_tokens`` gets n empty completions that say so. Raises EngineError where the engine fails.
        """
        ...

    def close(self) -> None:
        """Give its memory back; it writes no more."""
        ...


def cut_at_stop(text: str, stop: Sequence[str], finish_reason: FinishReason) -> tuple[str, FinishReason]:
    """The text before the first stop string, which counts as the model's own end."""
    positions = [position for position in (text.find(string) for string in stop) if position >= 0]
    return (text[: min(positions)], FinishReason.STOP) if positions else (text, finish_reason)


def prompt_tokens(written: Sequence[Sequence[Completion]]) -> int:
    """Tokens that were read for these completions."""
    return sum(one.prompt_tokens for group in written for one in group)


def fitting(read: Sequence[Sequence[int]], sampling: Sampling, context: int) -> list[int]:
    """Places of the prompts that leave room for an answer of the length allowed."""
    return [place for place, ids in enumerate(read) if len(ids) + sampling.max_tokens <= context]


def too_long(n: int) -> list[Completion]:
    """What a prompt gets that leaves no room for an answer."""
    return [Completion(text="", tokens=0, finish_reason=FinishReason.PROMPT_TOO_LONG)] * n


def context_length(model: Path) -> int:
    """How many tokens a model reads and writes together, as its config says; a great many where it does not."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config", config)
    found = next((config[key] for key in ("max_position_embeddings", "n_positions", "n_ctx") if config.get(key)), sys.maxsize)
    return int(found)


def end_tokens(model: Path, tokenizer: Any) -> list[int]:
    """The tokens that end a text: the tokenizer's, and those that a model's generation_config names."""
    path = model / "generation_config.json"
    named = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.exists() else None
    return sorted({tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])} - {None})


def token_ids(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    """The tokens of prompts; an empty one is the token that texts begin with, for a model must read something."""
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return [list(ids) or [begin] for ids in tokenizer(list(prompts)).input_ids]
