"""scripted: replays texts from a file, for tests and for benchmarks of everything but the model."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from flywheel.core.files import encodable
from flywheel.engines.contract import Sampling
from flywheel.engines.texts import cut_at_stop
from flywheel.errors import DataError
from flywheel.records import Completion, FinishReason


class ScriptedEngine:
    """Gives each prompt the next texts of a jsonl file, over and over.

    A line has ``text``; ``finish_reason`` (``stop`` or ``length``) if it is not *stop*; and ``when``, a substring of the
    prompts that it is for, if prompts of different kinds get different texts. A new process starts with the first line.
    """

    def __init__(self, script: Path) -> None:
        try:
            lines = script.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {script}: {error}", "Fix `engine.script`.") from None
        texts: dict[str, list[Completion]] = {}
        for number, line in enumerate(lines, start=1):
            if line.strip():
                when, completion = _read(line, f"{script}, line {number}")
                texts.setdefault(when, []).append(completion)
        if not texts:
            raise DataError(f"{script} has no texts", "Add lines to it or fix `engine.script`.")
        self._texts: dict[str, Iterator[Completion]] = {when: itertools.cycle(group) for when, group in texts.items()}

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        return [[self._next(prompt, sampling) for _ in range(n)] for prompt in prompts]

    def close(self) -> None:
        """Nothing to free."""

    def _next(self, prompt: str, sampling: Sampling) -> Completion:
        when = next((part for part in self._texts if part and part in prompt), "")
        if when not in self._texts:
            message = f"engine.script has no text for a prompt that ends with {prompt[-40:]!r}"
            raise DataError(message, "Add a line without `when`.")
        completion = next(self._texts[when])
        text, reason = cut_at_stop(completion.text, sampling.stop, completion.finish_reason)
        return Completion(text=text, tokens=completion.tokens, finish_reason=reason)


def _read(line: str, place: str) -> tuple[str, Completion]:
    """The ``when`` of a line, and its text."""
    try:
        row = json.loads(line)
        text, when, finish_reason = row["text"], row.get("when", ""), FinishReason(row.get("finish_reason", "stop"))
        if not all(isinstance(value, str) and encodable(value) for value in (text, when)):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        hint = "Write an object with `text`, and optionally `finish_reason` (stop or length) and `when`."
        raise DataError(f"{place} is invalid: {line[:60]!r}", hint) from None
    return when, Completion(text=text, tokens=len(text.split()) + 1, finish_reason=finish_reason)
