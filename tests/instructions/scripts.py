"""An engine that replays texts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path

from flywheel.engines.contract import Completions, Engine, Generate, Request, Sampling
from flywheel.engines.texts import cut_at_stop
from flywheel.records import Completion, FinishReason

RECORDED = [json.loads(line) for line in (Path(__file__).parent / "recorded.jsonl").read_text().splitlines()]
"""Completions as models write them, good and broken, with what they say: see test_parse."""


class ScriptedEngine:
    """Gives each prompt the next ``text`` of the rows, over and over; one with ``when`` is for prompts that contain it."""

    def __init__(self, rows: Iterable[dict[str, str]]) -> None:
        texts: dict[str, list[dict[str, str]]] = {}
        for row in rows:
            texts.setdefault(row.get("when", ""), []).append(row)
        self._texts: dict[str, Iterator[dict[str, str]]] = {when: itertools.cycle(group) for when, group in texts.items()}

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        return [[self._next(prompt, sampling) for _ in range(n)] for prompt in prompts]

    def close(self) -> None:
        """Nothing to free."""

    def _next(self, prompt: str, sampling: Sampling) -> Completion:
        row = next(self._texts[next((part for part in self._texts if part and part in prompt), "")])
        text, reason = cut_at_stop(row["text"], sampling.stop, FinishReason(row.get("finish_reason", "stop")))
        return Completion(text=text, tokens=len(row["text"].split()) + 1, finish_reason=reason)


def writing(engine: Engine) -> Generate:
    """An engine at work on one request after another."""

    def write(requests: Iterable[Request]) -> Generator[Completions]:
        for one in requests:
            yield engine.generate(one.prompts, n=one.n, sampling=one.sampling, seed=one.seed)

    return write


def task_text(instruction: str, text: str = "some input", constraints: str = "None") -> str:
    return f" {instruction}\nInput: {text}\nConstraints: {constraints}"


KINDS = "Sort Count Translate Rhyme Weigh Paint Fold Boil Plant Hide Bake Sing Draw Knit Climb Sail Mend Pack Stir Roll".split()
DIFFERENT = [
    task_text(f"{verb} everything that begins with {verb.lower()}ing number {place}.") for place, verb in enumerate(KINDS)
]
"""Tasks that are no near-duplicates of each other."""
