"""Preference data as thumbs (one output, a label) and pairs (a chosen and a rejected output).

Rows on one prompt share a split, in every set of a reward model, so that a held-out accuracy is an
accuracy on unseen prompts for each member and for their merge.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from flywheel.config import COLUMNS, DataConfig
from flywheel.core.files import encodable
from flywheel.core.seeds import generator
from flywheel.errors import DataError
from flywheel.instructions.tasks import LONGEST_FIELD
from flywheel.records import Task
from flywheel.reward.conversation import as_answer, as_task, first_words, is_messages, is_transcript, turns_of
from flywheel.reward.sources import SPLIT_NAMES, SourceRow, Split
from flywheel.reward.text import Answer, shared_beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumb:
    """One output and whether it was liked."""

    answer: Answer
    liked: bool
    prompt: str
    """What rows must share to share a split."""
    split: Split | None = None
    """None until `with_splits`."""

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The output."""
        return (self.answer,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two outputs, and which was preferred."""

    chosen: Answer
    rejected: Answer
    prompt: str
    split: Split | None = None

    @property
    def answers(self) -> tuple[Answer, ...]:
        """Both outputs, the chosen one first."""
        return (self.chosen, self.rejected)


Row = Thumb | Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceSet:
    """The usable rows of a source, and how many others were dropped, by reason."""

    source: str
    rows: tuple[Row, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def kind(self) -> Literal["thumbs", "pairs"]:
        """What its rows are."""
        return "thumbs" if isinstance(self.rows[0], Thumb) else "pairs"

    def of(self, split: Split) -> list[Row]:
        """The rows of one split."""
        return [row for row in self.rows if row.split == split]


class _Drop(Exception):
    """A row that cannot be used; the text is the reason it is counted under."""


def read_set(rows: Iterable[SourceRow], config: DataConfig) -> PreferenceSet:
    """Thumbs or pairs from rows of any kind; raises DataError for columns or labels that make no sense."""
    found = list(rows)
    if not found:
        raise DataError(f"{config.data} has no rows; a run needs some")
    cells = _Cells(config, dict.fromkeys(itertools.chain.from_iterable(row.values for row in found)))
    dropped: Counter[str] = Counter()
    kept: dict[Any, Row] = {}
    for row in _KINDS[config.kind](cells, found, dropped):
        key = (row.answers, isinstance(row, Thumb) and row.liked)
        if key in kept:
            dropped["repeated"] += 1
        elif isinstance(row, Pair) and row.chosen == row.rejected:
            dropped["tie"] += 1
        else:
            kept[key] = row
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common())
        raise DataError(f"{config.data}: none of {len(found)} rows can be used ({reasons}); mend the data or `columns`")
    return PreferenceSet(source=config.data, rows=_with_splits(list(kept.values())), dropped=dict(dropped))


def _with_splits(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Each row with its split: the one its source names, or else one drawn by its prompt (80, 10 and 10 %).

    Where a source names some splits and lacks another, that one is drawn from its train rows.
    """
    named = {row.split for row in rows} - {None}

    def split(row: Row) -> Split:
        if row.split not in (None, Split.TRAIN):
            return row.split
        share = generator("split", row.prompt).random()
        drawn = Split.TRAIN if share < 0.8 else Split.VALIDATION if share < 0.9 else Split.TEST
        return Split.TRAIN if row.split and drawn in named else drawn

    return tuple(replace(row, split=split(row)) for row in rows)


def separate(sets: Mapping[str, PreferenceSet]) -> dict[str, PreferenceSet]:
    """The sets without rows whose prompt is held out: in test, no other split of any set has its prompts; so in validation.

    Raises DataError where a set is left without rows in a split, or with one kind of label.
    """
    held: dict[Split, set[str]] = {
        split: {row.prompt for one in sets.values() for row in one.of(split)} for split in (Split.TEST, Split.VALIDATION)
    }
    stricter = {
        Split.TRAIN: held[Split.TEST] | held[Split.VALIDATION],
        Split.VALIDATION: held[Split.TEST],
        Split.TEST: set[str](),
    }
    separated = {}
    for name, one in sets.items():
        kept = tuple(row for row in one.rows if row.split and row.prompt not in stricter[row.split])
        left_out = {"prompt held out": len(one.rows) - len(kept)} if len(kept) < len(one.rows) else {}
        separated[name] = replace(one, rows=kept, dropped={**one.dropped, **left_out})
        _require_usable(separated[name])
    return separated


def _require_usable(one: PreferenceSet) -> None:
    for split in Split:
        rows = one.of(split)
        if not rows:
            raise DataError(f"{one.source} has no rows in its {split} split; add some")
        labels = {row.liked for row in rows if isinstance(row, Thumb)}
        if len(labels) == 1:
            which = "likes" if labels.pop() else "dislikes"
            raise DataError(f"{one.source}: all {len(rows)} rows of the {split} split are {which}; both kinds are needed")


def pool(sets: Mapping[str, PreferenceSet], *, seed: int) -> PreferenceSet:
    """The train rows of all sets as pairs; liked and disliked thumbs meet at random, each in one pair."""
    pairs: list[Row] = []
    for name, one in sets.items():
        rows = one.of(Split.TRAIN)
        pairs += [row for row in rows if isinstance(row, Pair)]
        likes, dislikes = ([row for row in rows if isinstance(row, Thumb) and row.liked == liked] for liked in (True, False))
        order = generator(seed, "pool", name)
        order.shuffle(likes)
        order.shuffle(dislikes)
        pairs += [
            Pair(chosen=liked.answer, rejected=disliked.answer, prompt=liked.prompt, split=Split.TRAIN)
            for liked, disliked in zip(likes, dislikes, strict=False)
        ]
    return PreferenceSet(source="all sets together", rows=tuple(pairs))


class _Cells:
    """Finds the cells of a row by what they are."""

    def __init__(self, config: DataConfig, present: Mapping[str, Any]) -> None:
        self.config, self._present = config, list(present)
        for name, column in config.columns.items():
            if column not in present:
                raise DataError(f"{config.data} has no column {column!r} (columns.{name}); it has {', '.join(self._present)}")
        claimed = {column for name, column in config.columns.items() if name not in ("group", "split")}
        self._found = {
            name: config.columns.get(name) or next((one for one in knowns if one in present and one not in claimed), None)
            for name, knowns in COLUMNS.items()
        }

    def has(self, name: str) -> bool:
        return self._found[name] is not None

    def require(self, *names: str) -> None:
        """Raise DataError unless there is one of these columns."""
        if not any(self.has(name) for name in names):
            wanted = " or ".join(repr(name) for name in names)
            raise DataError(
                f"{self.config.data} has no column for {wanted}; it has {', '.join(self._present)}; name it under `columns`"
            )

    def get(self, row: SourceRow, name: str) -> Any:
        column = self._found[name]
        return None if column is None else row.values.get(column)

    def text(self, row: SourceRow, name: str, default: str) -> str:
        value = self.get(row, name)
        return value if isinstance(value, str) and value.strip() else default

    def list(self, row: SourceRow, name: str) -> list[Any]:
        value = self.get(row, name)
        if isinstance(value, str) and value.lstrip().startswith("["):
            with suppress(ValueError, RecursionError):
                value = json.loads(value)
        if not isinstance(value, list | tuple):
            raise DataError(f"{row.where}: {self._found[name]!r} must be a list, got {str(value)[:40]!r}; mend the row")
        return list(value)

    def answer(self, row: SourceRow, cell: Any) -> tuple[Answer, str]:
        """An output with what was asked, and the prompt that its split goes by."""
        if isinstance(cell, dict):
            return _whole_answer(cell)
        asked = self.get(row, "instruction")
        if is_messages(cell):
            before = turns_of(asked) if is_messages(asked) else [("Human", asked)] if isinstance(asked, str) else []
            return _last_turn([*before, *turns_of(cell)])
        if cell is None:
            raise _Drop("empty")
        if isinstance(cell, bool) or not isinstance(cell, str | int | float):
            raise _Drop("not a text")
        output = str(cell)
        if not output.strip():
            raise _Drop("empty")
        if is_messages(asked):
            turns = turns_of(asked)
            return Answer(task=as_task(turns), output=output), first_words(turns)
        if self.has("instruction"):
            if not isinstance(asked, str) or not asked.strip():
                raise _Drop("empty")
            task = Task(
                instruction=asked,
                input=self.text(row, "input", "None"),
                constraints=self.text(row, "constraints", "None"),
            )
            return Answer(task=task, output=output), f"{task.instruction}\x1f{task.input}"
        if is_transcript(output):
            return _last_turn(turns_of(output))
        return Answer(task=None, output=output), ""

    def split(self, row: SourceRow) -> Split | None:
        """The split the row names, or else the one its file is named after."""
        value = self.get(row, "split")
        if value is None:
            return row.split
        if str(value).lower() not in SPLIT_NAMES:
            raise DataError(f"{row.where}: split must be one of {', '.join(Split)}, got {value!r}; mend the row")
        return SPLIT_NAMES[str(value).lower()]

    def prompt(self, row: SourceRow, prompt: str, fallback: str) -> str:
        group = self.get(row, "group")
        return f"group\x1f{group}" if group is not None else prompt or fallback

    def thumb(self, row: SourceRow) -> Thumb:
        answer, prompt = self.answer(row, self.get(row, "output" if self.has("output") else "text"))
        # A whole text has no prompt of its own: all but its last line stands for it.
        fallback = answer.output.rstrip().rpartition("\n")[0] or answer.output
        return Thumb(answer=answer, liked=self.liked(row), prompt=self.prompt(row, prompt, fallback), split=self.split(row))

    def pair(self, row: SourceRow, chosen: Any, rejected: Any) -> Pair:
        better, prompt = self.answer(row, chosen)
        worse, _ = self.answer(row, rejected)
        # Of whole texts, what both have in common stands for the prompt.
        length = shared_beginning([better.output, worse.output])
        shared = better.output[:length].rpartition("\n")[0] or better.output
        return Pair(chosen=better, rejected=worse, prompt=self.prompt(row, prompt, shared), split=self.split(row))

    def liked(self, row: SourceRow) -> bool:
        value = self.get(row, "label")
        if value is None or value == "":
            raise _Drop("no label")
        if self.config.liked:
            return str(value).strip() in self.config.liked
        number = _number(value)
        if number is not None and not math.isfinite(number):
            raise _Drop("no label")
        if number is None:
            raise DataError(f"{row.where}: label is {value!r}; say which words are likes, as `liked: [good]`")
        if self.config.threshold is None and number not in (0, 1):
            raise DataError(f"{row.where}: label is {value!r}; say from which on labels are likes, as `threshold: 1`")
        return number >= (1 if self.config.threshold is None else self.config.threshold)


def _whole_answer(cell: Mapping[str, Any]) -> tuple[Answer, str]:
    """An output that brings its own task."""
    fields = [cell.get(name) for name in ("instruction", "output")]
    if not all(isinstance(one, str) and one.strip() for one in fields):
        raise _Drop("empty")
    task = Task(
        instruction=str(fields[0]),
        input=str(cell.get("input") or "None"),
        constraints=str(cell.get("constraints") or "None"),
    )
    return Answer(task=task, output=str(fields[1])), f"{task.instruction}\x1f{task.input}"


def _last_turn(turns: Sequence[tuple[str, str]]) -> tuple[Answer, str]:
    if len(turns) < 2 or turns[-1][0] != "Assistant":
        raise _Drop("no reply")
    if not turns[-1][1]:
        raise _Drop("empty")
    return as_answer(turns), first_words(turns)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _each(rows: Iterable[SourceRow], dropped: Counter[str], make: Callable[[SourceRow], Row]) -> Iterator[Row]:
    for row in rows:
        try:
            made = make(row)
        except _Drop as drop:
            dropped[str(drop)] += 1
            continue
        if all(map(_is_text, made.answers)):
            yield made
        else:
            dropped["not a text"] += 1


def _is_text(answer: Answer) -> bool:
    """Whether every part is a text that a tokenizer reads, of a length that a model might."""
    task = answer.task
    parts = (answer.output, *((task.instruction, task.input, task.constraints) if task else ()))
    return all(len(part) <= LONGEST_FIELD and encodable(part) for part in parts)


def _thumbs(cells: _Cells, rows: Sequence[SourceRow], dropped: Counter[str]) -> Iterator[Row]:
    cells.require("output", "text")
    cells.require("label")
    yield from _each(rows, dropped, cells.thumb)


FIRST = {"1", "a", "first", "model_a", "output_1", "response_1", "response1"}
SECOND = {"2", "b", "second", "model_b", "output_2", "response_2", "response2"}
TIE = {"0", "tie", "both", "neither", "equal", "tie (bothbad)", "tie (both bad)"}


def _pairs(cells: _Cells, rows: Sequence[SourceRow], dropped: Counter[str]) -> Iterator[Row]:
    def by_preference(row: SourceRow) -> Pair:
        value = cells.get(row, "preferred")
        number = _number(value)
        word = str(int(number) if number is not None and math.isfinite(number) else value).strip().lower()
        if value is None or word in TIE:
            raise _Drop("no label" if value is None else "tie")
        first, second = cells.get(row, "first"), cells.get(row, "second")
        if word not in FIRST | SECOND:
            raise DataError(f"{row.where}: preferred is {value!r}; it must be 1, 2 or 0 for a tie (or a, b, tie)")
        return cells.pair(row, first, second) if word in FIRST else cells.pair(row, second, first)

    if cells.has("first") and cells.has("second") and not cells.has("chosen"):
        cells.require("preferred")
        yield from _each(rows, dropped, by_preference)
        return
    cells.require("chosen")
    cells.require("rejected")
    yield from _each(rows, dropped, lambda row: cells.pair(row, cells.get(row, "chosen"), cells.get(row, "rejected")))


def _rankings(cells: _Cells, rows: Sequence[SourceRow], dropped: Counter[str]) -> Iterator[Row]:
    cells.require("outputs")
    for row in rows:
        outputs = cells.list(row, "outputs")
        ranks = cells.list(row, "ranks") if cells.has("ranks") else list(range(len(outputs)))
        yield from _ordered(cells, row, outputs, [-_rating(row, rank, "rank") for rank in ranks], dropped)


def _ratings(cells: _Cells, rows: Sequence[SourceRow], dropped: Counter[str]) -> Iterator[Row]:
    if cells.has("outputs"):
        cells.require("ratings")
        for row in rows:
            ratings = [_rating(row, value) for value in cells.list(row, "ratings")]
            yield from _ordered(cells, row, cells.list(row, "outputs"), ratings, dropped)
        return
    cells.require("output", "outputs")
    cells.require("rating")
    cells.require("instruction")
    grouped: dict[str, list[SourceRow]] = {}
    for row in rows:
        asked = [cells.get(row, name) for name in ("instruction", "input", "constraints")]
        grouped.setdefault(json.dumps(asked, sort_keys=True, default=str), []).append(row)
    for group in grouped.values():
        if len(group) == 1:
            dropped["alone"] += 1
            continue
        ratings = [_rating(row, cells.get(row, "rating")) for row in group]
        yield from _ordered(cells, group[0], [cells.get(row, "output") for row in group], ratings, dropped)


def _rating(row: SourceRow, value: Any, what: str = "rating") -> float:
    number = _number(value)
    if number is None or number != number:
        raise DataError(f"{row.where}: a {what} must be a number, got {str(value)[:40]!r}; mend the row")
    return number


def _ordered(
    cells: _Cells, row: SourceRow, outputs: Sequence[Any], worth: Sequence[float], dropped: Counter[str]
) -> Iterator[Row]:
    """A pair of every two outputs of which one is worth more than the other by more than the margin."""
    if len(outputs) != len(worth):
        raise DataError(f"{row.where}: {len(outputs)} outputs and {len(worth)} ranks or ratings; there must be one for each")
    for one, other in itertools.combinations(range(len(outputs)), 2):
        better, worse = (one, other) if worth[one] >= worth[other] else (other, one)
        if worth[better] - worth[worse] <= cells.config.margin:
            dropped["tie"] += 1
            continue
        yield from _each([row], dropped, lambda row, a=better, b=worse: cells.pair(row, outputs[a], outputs[b]))  # type: ignore[misc]


_KINDS: dict[str, Callable[[_Cells, Sequence[SourceRow], Counter[str]], Iterator[Row]]] = {
    "thumbs": _thumbs,
    "pairs": _pairs,
    "rankings": _rankings,
    "ratings": _ratings,
}
