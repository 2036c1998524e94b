"""Thumbs and pairs from the rows of a source, in any of four kinds."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from flywheel.config import COLUMNS, DataConfig
from flywheel.errors import DataError
from flywheel.reward.answers import Dropped, is_text, read_answer
from flywheel.reward.data import Pair, PreferenceSet, Row, Thumb, with_splits
from flywheel.reward.sources import SPLIT_NAMES, SourceRow, Split
from flywheel.reward.text import shared_beginning

FIRST = {"1", "a", "first", "model_a", "output_1", "response_1", "response1"}
SECOND = {"2", "b", "second", "model_b", "output_2", "response_2", "response2"}
TIE = {"0", "tie", "both", "neither", "equal", "tie (bothbad)", "tie (both bad)"}
FIX_ROW = "Fix or remove that row."
_Cells = tuple[SourceRow, *tuple[Any, ...]]
"""A row, and the cells of its output, or of its chosen and its rejected output."""


def read_set(rows: Iterable[SourceRow], config: DataConfig) -> PreferenceSet:
    """Thumbs or pairs from rows of any kind; raises DataError for invalid columns or labels."""
    source_rows = list(rows)
    if not source_rows:
        raise DataError(f"{config.data} has no rows", "Add rows, or use another file.")
    reader = _Reader(config, source_rows)
    kept: dict[Any, Row] = {}
    for row in reader.preferences():
        key = (row.answers, isinstance(row, Thumb) and row.liked)
        if not all(map(is_text, row.answers)):
            reader.dropped["not a text"] += 1
        elif key in kept:
            reader.dropped["duplicate"] += 1
        elif isinstance(row, Pair) and row.chosen == row.rejected:
            reader.dropped["tie"] += 1
        else:
            kept[key] = row
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in reader.dropped.most_common())
        raise DataError(
            f"{config.data}: none of {len(source_rows)} rows can be used ({reasons})",
            "Fix the data, or set `columns` (--column in `flywheel reward pairs`).",
        )
    return PreferenceSet(source=config.data, rows=with_splits(list(kept.values())), dropped=dict(reader.dropped))


class _Reader:
    """Reads the rows of one source, and counts in ``dropped`` what it cannot use."""

    def __init__(self, config: DataConfig, rows: Sequence[SourceRow]) -> None:
        self.dropped: Counter[str] = Counter()
        self._config, self._rows = config, rows
        self._present = dict.fromkeys(itertools.chain.from_iterable(row.values for row in rows))
        for name, column in config.columns.items():
            if column not in self._present:
                option = "--group-by …" if name == "group" else f"--column {name}=…"
                raise DataError(
                    f"{config.data} has no column {column!r} (columns.{name}); available: {', '.join(self._present)}",
                    f"Set `columns: {{{name}: …}}` ({option}) to one of these.",
                )
        claimed = {column for name, column in config.columns.items() if name not in ("group", "split")}
        free = [column for column in self._present if column not in claimed]
        self._columns = {
            name: config.columns.get(name) or next((usual for usual in usual_names if usual in free), None)
            for name, usual_names in COLUMNS.items()
        }

    def preferences(self) -> Iterator[Row]:
        """The usable rows, in order; raises DataError for missing columns and invalid cells."""
        kinds = {"thumbs": self._thumbs, "pairs": self._pairs, "rankings": self._rankings, "ratings": self._ratings}
        for row, *cells in kinds[self._config.kind]():
            try:
                yield self._preference(row, cells)
            except Dropped as drop:
                self.dropped[str(drop)] += 1

    # Rows with the cells of their outputs

    def _thumbs(self) -> Iterator[_Cells]:
        self._require("output", "text")
        self._require("label")
        return ((row, self._get(row, "output" if self._has("output") else "text")) for row in self._rows)

    def _pairs(self) -> Iterator[_Cells]:
        preferred = self._has("first") and self._has("second") and not self._has("chosen")
        for name in ("preferred",) if preferred else ("chosen", "rejected"):
            self._require(name)
        for row in self._rows:
            if not preferred:
                yield row, self._get(row, "chosen"), self._get(row, "rejected")
                continue
            value, first, second = (self._get(row, name) for name in ("preferred", "first", "second"))
            number = _number(value)
            word = str(int(number) if number is not None and math.isfinite(number) else value).strip().lower()
            if value is None or word in TIE:
                self.dropped["no label" if value is None else "tie"] += 1
            elif word in FIRST:
                yield row, first, second
            elif word in SECOND:
                yield row, second, first
            else:
                raise DataError(f"{row.where}: invalid preference {value!r}", "Use 1, 2, or 0 for a tie (or a, b, tie).")

    def _rankings(self) -> Iterator[_Cells]:
        self._require("outputs")
        for row in self._rows:
            outputs = self._list(row, "outputs")
            ranks = self._list(row, "ranks") if self._has("ranks") else range(len(outputs))
            yield from self._ordered(row, outputs, [-_to_number(row, rank, "rank") for rank in ranks])

    def _ratings(self) -> Iterator[_Cells]:
        if self._has("outputs"):
            self._require("ratings")
            for row in self._rows:
                ratings = [_to_number(row, rating, "rating") for rating in self._list(row, "ratings")]
                yield from self._ordered(row, self._list(row, "outputs"), ratings)
            return
        for names in (("output", "outputs"), ("rating",), ("instruction",)):
            self._require(*names)
        groups: defaultdict[str, list[SourceRow]] = defaultdict(list)
        for row in self._rows:
            task = [self._get(row, name) for name in ("instruction", "input", "constraints")]
            groups[json.dumps(task, sort_keys=True, default=str)].append(row)
        for group in groups.values():
            if len(group) == 1:
                self.dropped["only output of its task"] += 1
                continue
            ratings = [_to_number(row, self._get(row, "rating"), "rating") for row in group]
            yield from self._ordered(group[0], [self._get(row, "output") for row in group], ratings)

    def _ordered(self, row: SourceRow, outputs: Sequence[Any], worth: Sequence[float]) -> Iterator[_Cells]:
        """Every two outputs of which one is worth more than the other by more than the margin."""
        if len(outputs) != len(worth):
            raise DataError(
                f"{row.where}: {len(outputs)} outputs and {len(worth)} ranks or ratings", "Give one rank or rating per output."
            )
        for pair in itertools.combinations(zip(outputs, worth, strict=True), 2):
            (better, most), (worse, least) = sorted(pair, key=lambda output: -output[1])
            if most - least <= self._config.margin:
                self.dropped["tie"] += 1
            else:
                yield row, better, worse

    # One row

    def _preference(self, row: SourceRow, cells: Sequence[Any]) -> Row:
        """The thumb or pair of a row; raises Dropped."""
        fields = {name: self._text(row, name) for name in ("input", "constraints")}
        instruction, whole = self._get(row, "instruction"), not self._has("instruction")
        (first, prompt), *others = (read_answer(cell, instruction, fields=fields, whole=whole) for cell in cells)
        if (group := self._get(row, "group")) is not None:
            prompt = f"group\x1f{group}"
        if others:
            rejected, _ = others[0]
            # Of whole texts, what both have in common stands for the prompt.
            shared = first.output[: shared_beginning([first.output, rejected.output])]
            prompt = prompt or shared.rpartition("\n")[0] or first.output
            return Pair(chosen=first, rejected=rejected, prompt=prompt, split=self._split(row))
        # A whole text has no prompt of its own: all but its last line stands for it.
        prompt = prompt or first.output.rstrip().rpartition("\n")[0] or first.output
        return Thumb(answer=first, liked=self._liked(row), prompt=prompt, split=self._split(row))

    def _liked(self, row: SourceRow) -> bool:
        value, threshold = self._get(row, "label"), self._config.threshold
        if value is None or value == "":
            raise Dropped("no label")
        if self._config.liked:
            return str(value).strip() in self._config.liked
        number = _number(value)
        if number is None:
            hint = "Set `liked` (--liked) to the labels that count as likes, such as [good]."
            raise DataError(f"{row.where}: label {value!r} is not a number", hint)
        if not math.isfinite(number):
            raise Dropped("no label")
        if threshold is None and number not in (0, 1):
            hint = "Set `threshold` (--threshold) to the lowest label that is a like, such as 4 of 5 stars."
            raise DataError(f"{row.where}: label {value!r} is not 0 or 1", hint)
        return number >= (1 if threshold is None else threshold)

    def _split(self, row: SourceRow) -> Split | None:
        """The split the row names, or else the one its file is named after."""
        value = self._get(row, "split")
        if value is None:
            return row.split
        if str(value).lower() not in SPLIT_NAMES:
            raise DataError(f"{row.where}: unknown split {value!r}", f"Use one of {', '.join(Split)}.")
        return SPLIT_NAMES[str(value).lower()]

    # One cell

    def _has(self, name: str) -> bool:
        return self._columns[name] is not None

    def _require(self, *names: str) -> None:
        """Raise DataError unless there is one of these columns."""
        if not any(map(self._has, names)):
            raise DataError(
                f"{self._config.data} has no column for {' or '.join(map(repr, names))}; available: {', '.join(self._present)}",
                f"Set `columns: {{{names[0]}: …}}` (--column {names[0]}=…) to one of these.",
            )

    def _get(self, row: SourceRow, name: str) -> Any:
        column = self._columns[name]
        return None if column is None else row.values.get(column)

    def _text(self, row: SourceRow, name: str) -> str:
        value = self._get(row, name)
        return value if isinstance(value, str) and value.strip() else "None"

    def _list(self, row: SourceRow, name: str) -> list[Any]:
        value = self._get(row, name)
        if isinstance(value, str) and value.lstrip().startswith("["):
            with suppress(ValueError, RecursionError):
                value = json.loads(value)
        if not isinstance(value, list | tuple):
            raise DataError(f"{row.where}: {self._columns[name]!r} must be a list, got {str(value)[:40]!r}", FIX_ROW)
        return list(value)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _to_number(row: SourceRow, value: Any, name: str) -> float:
    number = _number(value)
    if number is None or math.isnan(number):
        raise DataError(f"{row.where}: a {name} must be a number, got {str(value)[:40]!r}", FIX_ROW)
    return number
