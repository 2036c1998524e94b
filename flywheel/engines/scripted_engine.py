"""scripted: replays texts from a file, for tests and for benchmarks of everything but the model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from flywheel.engines.contract import Sampling
from flywheel.engines.texts import cut_at_stop
from flywheel.errors import DataError
from flywheel.records import Completion, FinishReason


class _Line(BaseModel):
    text: str
    finish_reason: FinishReason = FinishReason.STOP
    when: str = ""
    """A substring of the prompts that the text is for, if prompts of different kinds get different texts."""


class ScriptedEngine:
    """Gives each prompt the next texts of a jsonl file, over and over; a new process starts with the first line."""

    def __init__(self, script: Path) -> None:
        try:
            lines = script.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read `engine.script`: {error}", "Fix the path or the file.") from None
        texts: dict[str, list[_Line]] = {}
        for number, content in enumerate(lines, start=1):
            if content.strip():
                try:
                    line = _Line.model_validate_json(content)
                except ValidationError:
                    hint = "Write an object with `text`, and optionally `finish_reason` (stop or length) and `when`."
                    raise DataError(f"{script}, line {number}: invalid text {content[:60]!r}", hint) from None
                texts.setdefault(line.when, []).append(line)
        self._texts: dict[str, Iterator[_Line]] = {when: itertools.cycle(group) for when, group in texts.items()}

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        return [[self._next(prompt, sampling) for _ in range(n)] for prompt in prompts]

    def close(self) -> None:
        """Nothing to free."""

    def _next(self, prompt: str, sampling: Sampling) -> Completion:
        when = next((part for part in self._texts if part and part in prompt), "")
        if when not in self._texts:
            message = f"`engine.script` has no text for a prompt that ends with {prompt[-40:]!r}"
            raise DataError(message, "Add a line without `when`.")
        line = next(self._texts[when])
        text, reason = cut_at_stop(line.text, sampling.stop, line.finish_reason)
        return Completion(text=text, tokens=len(line.text.split()) + 1, finish_reason=reason)
