"""How long texts are: prompts as a round would render them, from the seeds and the held-out tasks, in tokens."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flywheel.config import Config
from flywheel.core.seeds import generator
from flywheel.instructions.demos import Demos
from flywheel.instructions.prompts import Prompts
from flywheel.instructions.tasks import REWORDED_DEMOS, read_reworded
from flywheel.records import SeedTask, Task

CHARACTERS = 4.0
"""Characters a token where there is no tokenizer to ask (measured on prompts from data/seeds.jsonl: 3.9 with GPT-2's, 4.1 and
4.2 with two of later models)."""
RENDERED = 64
"""Prompts of a kind that are rendered to see how long they are."""
Tokens = Callable[[Sequence[str]], list[int]]
"""How many tokens each text has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """Tokens of some texts of one kind."""

    counts: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Of a text."""
        return statistics.fmean(self.counts)

    @property
    def longest(self) -> int:
        """Of the longest of these texts."""
        return max(self.counts)

    def padded(self, size: int) -> float:
        """Of a text in a batch of so many, each padded to the longest."""
        groups = [self.counts[start : start + size] for start in range(0, len(self.counts), size)]
        return sum(max(group) * len(group) for group in groups) / len(self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """What a model reads and is trained on, in its own tokens."""

    propose: Length
    answer: Length
    """Of tasks like the seeds."""
    held_out: Length
    """Of the held-out tasks."""
    paraphrase: Length | None
    task: Length
    """A task as it is written after a propose prompt."""


def count_tokens(folder: Path | None, *, trust_remote_code: bool = False) -> Tokens:
    """How texts are counted: by a model's tokenizer, or by their characters where there is none."""
    if folder is None:
        return lambda texts: [round(len(text) / CHARACTERS) for text in texts]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    return lambda texts: [len(ids) for ids in tokenizer(list(texts)).input_ids] if texts else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What prompts are rendered from."""

    config: Config
    seeds: Sequence[SeedTask]
    held_out: Sequence[Task]

    def lengths(self, prompts: Prompts, tokens: Tokens) -> Lengths:
        """Render prompts of each kind and count them; the same ones for every model."""
        instructions, rng = self.config.instructions, generator("dry-run", self.config.seed)
        # Evolving demos begin with the seeds alone.
        demos = Demos(instructions, self.seeds, names=(self.config.seed, "dry-run"))
        tasks = [seed.task for seed in self.seeds]
        some = rng.sample(tasks, min(RENDERED, len(tasks)))
        measured = rng.sample(list(self.held_out), min(RENDERED, len(self.held_out)))
        paraphrase = None
        if instructions.paraphrases.per_winner:
            pairs = read_reworded(self.config.path(instructions.paraphrases.demos))
            paraphrase = length_of(tokens, [prompts.paraphrase(task, rng.sample(pairs, REWORDED_DEMOS)) for task in some])
        return Lengths(
            propose=length_of(tokens, [prompts.propose(demos.choose(number)) for number in range(RENDERED)]),
            answer=length_of(tokens, [prompts.answer(task) for task in some]),
            held_out=length_of(tokens, [prompts.answer(task) for task in measured]),
            paraphrase=paraphrase,
            task=length_of(tokens, [prompts.written(task) for task in some]),
        )


def length_of(tokens: Tokens, texts: Sequence[str]) -> Length:
    """Count these texts."""
    return Length(counts=tuple(tokens(texts)))
