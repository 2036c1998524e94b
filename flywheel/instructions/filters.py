"""Why a proposed task is dropped. Every attempt is decided once and keeps the first reason that applies.

Cheap filters come first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import astuple, dataclass
from enum import StrEnum

from flywheel.config import FiltersConfig
from flywheel.core.functions import load_function, reason_of
from flywheel.core.safe_text import visible
from flywheel.errors import ConfigError, DataError
from flywheel.instructions.similarity import SimilarityIndex, words
from flywheel.records import FinishReason, Task


class Dropped(StrEnum):
    """Why an attempt at a new task was dropped."""

    TRUNCATED = "truncated"
    """The token limit cut it."""
    PROMPT_TOO_LONG = "prompt too long"
    """The demos leave the generator no room for a task of the maximum length."""
    MISSING_FIELD = "missing field"
    """It has no instruction, no input or no constraints."""
    REFUSAL = "refusal"
    TOO_LONG = "too long"
    WRONG_LANGUAGE = "wrong language"
    COPIES_DEMO = "copies a demo"
    """Its instruction and input are those of a task in the prompt."""
    EXACT_DUPLICATE = "exact-duplicate"
    """Its instruction and input are those of a seed, or of a task kept in this round or an earlier one."""
    DECONTAMINATION = "decontamination"
    """It is a held-out or protected task, or overlaps with one."""
    NEAR_DUPLICATE = "near-duplicate"
    """It is too similar to a seed, or to a task kept in this round or an earlier one."""
    NOT_BEST = "not the best"
    """Another attempt of the same prompt was kept."""
    SURPLUS = "surplus"
    """It came after the last task that was wanted."""
    UNCHANGED = "unchanged"
    """A paraphrase in the words of its parent."""
    REWARD_FALLS = "reward falls"
    """A paraphrase under which the winner's output has a lower reward: it asks for something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The decision on an attempt: the reason to drop it, None to keep it."""

    reason: str | None = None
    nearest: str | None = None
    """Id of the task that it duplicates or overlaps with."""
    similarity: float | None = None


KEPT = Decision()
Key = tuple[str, str]
Filter = Callable[[Task], str | None]
"""Takes a task, returns None to keep it or the reason to drop it."""
NEVER = 1.0
"""A similarity that no pair is above."""
MAX_REASON = 100
"""Characters that are kept of the reason that a custom filter gives."""
REFUSAL = re.compile(
    r"^\W*(?:(?:i(?:'|’)?m|i am) (?:(?:so|very|really) )?(?:sorry|afraid|unable)|i apologi[sz]e|sorry\b|unfortunately,? i\b"
    r"|i (?:can ?not|can(?:'|’)?t|won(?:'|’)?t|will not|do not|don(?:'|’)?t) "
    r"(?:help|assist|create|write|provide|generate|comply|do that)"
    r"|as an? (?:ai|artificial intelligence|(?:large )?language model))|\bas an ai (?:language )?model\b",
    re.IGNORECASE,
)
"""Found in a text that declines instead of doing what was asked."""


def key_of(task: Task) -> Key:
    """Instruction and input without differences of white space: what makes two tasks the same."""
    return " ".join(task.instruction.split()), " ".join(task.input.split())


def whole_text(task: Task) -> str:
    """Instruction and input in one text."""
    return task.instruction if task.input == "None" else f"{task.instruction} {task.input}"


def compared_text(task: Task, compare: str) -> str:
    """The text that similarity is measured on, by ``instructions.filters.compare``."""
    return task.instruction if compare == "instruction" else whole_text(task)


class Protected:
    """Tasks that must not be trained on: held-out tasks and benchmarks.

    A task overlaps with one of them if it is the same, if they share ``held_out_words`` in a row (GPT-3, arXiv 2005.14165,
    appendix C), or if ROUGE-L of instruction and input is above ``held_out_similarity``.
    """

    def __init__(self, tasks: Sequence[Task], config: FiltersConfig) -> None:
        self._keys = {key_of(task): task.task_id for task in tasks}
        self._size = config.held_out_words
        self._runs = {run: task.task_id for task in tasks for run in self._runs_of(task)}
        self._index = SimilarityIndex(config.held_out_similarity or NEVER)
        for task in tasks:
            self._index.add(task.task_id, whole_text(task))

    def overlap(self, task: Task) -> Decision:
        """Drops a task that is one of these or overlaps with one."""
        if same := self._keys.get(key_of(task)):
            return Decision(reason=Dropped.DECONTAMINATION, nearest=same, similarity=1.0)
        if shared := next((self._runs[run] for run in self._runs_of(task) if run in self._runs), None):
            return Decision(reason=Dropped.DECONTAMINATION, nearest=shared)
        if near := self._index.nearest(whole_text(task)):
            return Decision(reason=Dropped.DECONTAMINATION, nearest=near.key, similarity=near.similarity)
        return KEPT

    def _runs_of(self, task: Task) -> Iterable[int]:
        """All runs of words of the configured length, as hashes."""
        if self._size is None:
            return ()
        text = words(whole_text(task))
        return (hash(tuple(text[start : start + self._size])) for start in range(len(text) - self._size + 1))


class Filters:
    """All filters of a configuration, and the tasks that were kept so far."""

    def __init__(
        self, config: FiltersConfig, *, protected: Sequence[Task], known: Iterable[Task], measures_novelty: bool = True
    ) -> None:
        """Without ``measures_novelty``, `novelty` is not available, and texts are only stored to find near-duplicates."""
        self._config = config
        self._protected = Protected(protected, config)
        self._index = SimilarityIndex(config.near_duplicate or NEVER) if config.near_duplicate or measures_novelty else None
        # Hashes: whole texts would be most of what a large run keeps in memory.
        self._known: set[int] = set()
        self._filters: list[Filter] = [_length_filter(config.max_words)] if config.max_words is not None else []
        self._filters += [_language_filter(config.language)] if config.language is not None else []
        self._filters += map(_custom_filter, config.custom)
        for task in known:
            self.keep(task)

    def keep(self, task: Task) -> None:
        """Remember a task that was kept, so that later ones are compared with it."""
        self._known.add(hash(key_of(task)))
        if self._index is not None:
            self._index.add(task.task_id, compared_text(task, self._config.compare))

    def check(
        self, task: Task | None, raw: str, *, ended: FinishReason, demos: Collection[Key], near_duplicates: bool = True
    ) -> Decision:
        """Decide on an attempt by how it ended and what it says; ``demos`` are the keys of the tasks in its prompt."""
        if ended == FinishReason.PROMPT_TOO_LONG:
            return Decision(reason=Dropped.PROMPT_TOO_LONG)
        if ended == FinishReason.LENGTH:
            return Decision(reason=Dropped.TRUNCATED)
        if self._config.refusals and REFUSAL.search(raw if task is None else task.instruction):
            return Decision(reason=Dropped.REFUSAL)
        if task is None:
            return Decision(reason=Dropped.MISSING_FIELD)
        if key_of(task) in demos:
            return Decision(reason=Dropped.COPIES_DEMO)
        if hash(key_of(task)) in self._known:
            return Decision(reason=Dropped.EXACT_DUPLICATE)
        return self.check_text(task, near_duplicates=near_duplicates)

    def check_text(self, task: Task, *, near_duplicates: bool = True) -> Decision:
        """Decide on a task by what it says."""
        if reason := next((reason for filter_ in self._filters if (reason := filter_(task))), None):
            return Decision(reason=reason)
        overlap = self._protected.overlap(task)
        if overlap.reason or not near_duplicates or self._index is None:
            return overlap
        near = self._index.nearest(compared_text(task, self._config.compare))
        return Decision(reason=Dropped.NEAR_DUPLICATE, nearest=near.key, similarity=near.similarity) if near else KEPT

    def novelty(self, task: Task) -> float:
        """1 less the similarity to the most similar task so far: 1 is like none of them."""
        assert self._index is not None, "made without novelty"
        near = self._index.closest(compared_text(task, self._config.compare))
        return 1.0 - near.similarity if near else 1.0


def _length_filter(most: int) -> Filter:
    return lambda task: Dropped.TOO_LONG if sum(len(words(text)) for text in astuple(task)) > most else None


def _language_filter(language: str) -> Filter:
    import py3langid

    languages = sorted(name for name, _ in py3langid.rank("text"))
    if language not in languages:
        raise ConfigError(
            f"unknown language {language!r} in instructions.filters.language",
            f"Set `instructions.filters.language` to one of {', '.join(languages)}.",
        )
    return lambda task: None if py3langid.classify(task.instruction)[0] == language else Dropped.WRONG_LANGUAGE


def _custom_filter(name: str) -> Filter:
    function = load_function(name, "instructions.filters.custom")

    def apply(task: Task) -> str | None:
        try:
            reason = function(task)
        except (Exception, SystemExit) as error:  # whatever the user's function raises
            hint = "Fix the filter. A started round then needs --restart, as its tasks were chosen by other code."
            raise DataError(f"filter {name!r} failed with {reason_of(error)}", hint) from None
        if reason is not None and not (isinstance(reason, str) and reason.strip()):
            hint = "Return None to keep a task, or the reason to drop it as text. A started round then needs --restart."
            raise DataError(f"filter {name!r} returned {reason!r}", hint)
        # It may quote the task; charts and terminals show it.
        return visible(" ".join(reason.split()))[:MAX_REASON] if reason else None

    return apply
