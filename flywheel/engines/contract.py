"""What an engine is: prompts in, completions out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from flywheel.records import Completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How completions are sampled. The temperature is above 0."""

    temperature: float
    top_p: float
    max_tokens: int
    stop: tuple[str, ...] = ()
    """A completion ends before the first of these, and counts as finished."""


class Engine(Protocol):
    """Runs one generator."""

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """Return n completions of each prompt, in the order of the prompts.

        The same model, prompts, n, sampling and seed give the same completions, whatever was generated before and on any
        number of workers; an endpoint repeats them if its server does. A prompt that leaves no room for
        ``sampling.max_tokens`` gets n empty completions with the finish reason ``prompt-too-long``. Raises EngineError.
        """
        ...

    def close(self) -> None:
        """Free the memory; the engine generates no more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The arguments of one call of `Engine.generate`."""

    prompts: Sequence[str]
    n: int
    sampling: Sampling
    seed: int


Completions = Sequence[Sequence[Completion]]
"""The completions of each prompt of a request."""
Generate = Callable[[Iterable[Request]], Generator[Completions]]
"""Serves requests in their order. Later requests may start before the earlier ones' completions are taken, so a request must
not depend on them; a caller that needs no more closes the iterator."""


def prompt_tokens(completions: Completions) -> int:
    """Tokens that were read for these completions."""
    return sum(completion.prompt_tokens for group in completions for completion in group)
