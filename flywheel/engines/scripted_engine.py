"""scripted: replays texts from a file, for tests and for benchmarks of everything that is not the model."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from flywheel.core.files import encodable
from flywheel.engines.contract import Sampling, cut_at_stop
from flywheel.errors import DataError
from flywheel.records import Completion, FinishReason


class ScriptedEngine:
    """Gives each prompt the next texts of a jsonl file, over and over.

    A line has ``text``; ``finish_reason`` (``stop`` or ``length``) where it is not *stop*; and ``when``, a piece of the
    prompts that it is for, where prompts of different kinds get different texts. A new process begins with the first line.
    """

    name = "scripted"

    def __init__(self, script: Path) -> None:
        try:
            lines = script.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read engine.script {script}: {error}") from None
        texts: dict[str, list[Completion]] = {}
        for number, line in enumerate(lines, start=1):
            if line.strip():
                when, completion = _read(line, f"{script} line {number}")
                texts.setdefault(when, []).append(completion)
        if not texts:
            raise DataError(f"engine.script {script} has no texts; add some")
        self._texts: dict[str, Iterator[Completion]] = {when: itertools.cycle(found) for when, found in texts.items()}

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        return [[self._next(prompt, sampling) for _ in range(n)] for prompt in prompts]

    def close(self) -> None:
        """Nothing to give back."""

    def _next(self, prompt: str, sampling: Sampling) -> Completion:
        when = next((one for one in self._texts if one and one in prompt), "")
        if when not in self._texts:
            raise DataError(
                f"engine.script has no text for a prompt that ends with {prompt[-40:]!r}; add a line without `when`"
            )
        one = next(self._texts[when])
        text, reason = cut_at_stop(one.text, sampling.stop, one.finish_reason)
        return Completion(text=text, tokens=one.tokens, finish_reason=reason)


def _read(line: str, place: str) -> tuple[str, Completion]:
    """What prompts a line is for, and its text."""
    try:
        row = json.loads(line)
        text, when, finish_reason = row["text"], row.get("when", ""), FinishReason(row.get("finish_reason", "stop"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(
            f"{place} must be an object with a text, and a finish_reason of stop or length; mend {line[:60]!r}"
        ) from None
    if not all(isinstance(one, str) and encodable(one) for one in (text, when)):
        raise DataError(f"{place}: text and when must be texts; mend {line[:60]!r}")
    return when, Completion(text=text, tokens=len(text.split()) + 1, finish_reason=finish_reason)
