"""Engines that replay texts, as files for the config and as objects for the stations."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

from flywheel.engines.contract import Completions, Engine, Generate, Request
from flywheel.engines.scripted_engine import ScriptedEngine

RECORDED = [json.loads(line) for line in (Path(__file__).parent / "recorded.jsonl").read_text().splitlines()]
"""Completions as models write them, good and broken, with what they say: see test_parse."""


def scripted(folder: Path, rows: Sequence[dict[str, str]]) -> ScriptedEngine:
    return ScriptedEngine(script(folder, rows))


def writing(engine: Engine) -> Generate:
    """An engine at work on one request after another."""

    def write(requests: Iterable[Request]) -> Generator[Completions]:
        for one in requests:
            yield engine.generate(one.prompts, n=one.n, sampling=one.sampling, seed=one.seed)

    return write


def script(folder: Path, rows: Sequence[dict[str, str]]) -> Path:
    path = folder / "script.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def task_text(instruction: str, text: str = "some input", constraints: str = "None") -> str:
    return f" {instruction}\nInput: {text}\nConstraints: {constraints}"


KINDS = "Sort Count Translate Rhyme Weigh Paint Fold Boil Plant Hide Bake Sing Draw Knit Climb Sail Mend Pack Stir Roll".split()
DIFFERENT = [
    task_text(f"{verb} everything that begins with {verb.lower()}ing number {place}.") for place, verb in enumerate(KINDS)
]
"""Tasks that are no near-duplicates of each other."""
