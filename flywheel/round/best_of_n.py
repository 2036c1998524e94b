"""Best-of-N over given prompts: N outputs of a generator for each, ranked by a reward model. No round, nothing is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from flywheel.core.seeds import derive
from flywheel.engines.contract import Engine, Sampling
from flywheel.errors import DataError
from flywheel.records import Completion, FinishReason, Task

Reward = Callable[[Sequence[str | Task], Sequence[str]], Sequence[float]]
"""Takes prompts and outputs of equal number; returns a number for each, higher is better."""
Score = Callable[[Sequence[str | Task], Sequence[Completion]], Sequence[float]]
"""The same for completions, which also know whether they were cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """An output with its reward."""

    completion: Completion
    reward: float

    @property
    def output(self) -> str:
        return self.completion.text.strip()

    @property
    def finished(self) -> bool:
        """Whether the model ended the text itself; one that was cut never wins."""
        return self.completion.finish_reason == FinishReason.STOP


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfN:
    """A prompt with its N outputs."""

    prompt: str | Task
    candidates: tuple[Ranked, ...]
    """Best first; those that were cut at the token limit last."""

    @property
    def winner(self) -> Ranked | None:
        """The best finished output; None where all were cut."""
        return next((candidate for candidate in self.candidates if candidate.finished), None)


def rank(
    engine: Engine,
    score: Score,
    prompts: Sequence[str | Task],
    texts: Sequence[str],
    *,
    n: int,
    sampling: Sampling,
    seed: int,
    chunk: int,
) -> list[BestOfN]:
    """Sample N outputs for each prompt, ``chunk`` prompts at a time, and rank them; ``texts`` are what the generator reads.

    The engine is closed before the reward model scores, so that both need not fit into memory. Raises DataError where the
    reward function gives another number of values than it was asked for.
    """
    with closing(engine):
        completions = [
            group
            for number, start in enumerate(range(0, len(texts), chunk))
            for group in engine.generate(texts[start : start + chunk], n=n, sampling=sampling, seed=derive(seed, number))
        ]
    every = [completion for group in completions for completion in group]
    rewards = list(score([prompt for prompt in prompts for _ in range(n)], every)) if every else []
    if len(rewards) != len(every):
        raise DataError(f"the reward function gave {len(rewards)} values for {len(every)} outputs", "Return one per output.")
    ranked = [
        [Ranked(completion=completion, reward=float(rewards[place * n + index])) for index, completion in enumerate(group)]
        for place, group in enumerate(completions)
    ]
    return [
        BestOfN(prompt=prompt, candidates=tuple(sorted(group, key=lambda one: (one.finished, one.reward), reverse=True)))
        for prompt, group in zip(prompts, ranked, strict=True)
    ]
