"""Preference data as thumbs (one output, a label) and pairs (a chosen and a rejected output), in three splits.

Rows on one prompt share a split, in every set of a reward model, so that a held-out accuracy is an
accuracy on unseen prompts for each member and for their merge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal

from flywheel.core.seeds import generator
from flywheel.errors import DataError
from flywheel.reward.sources import Split
from flywheel.reward.text import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumb:
    """A binary preference: one output and whether it was liked."""

    answer: Answer
    liked: bool
    prompt: str
    """What rows must share to share a split."""
    split: Split | None = None
    """None until `with_splits` has drawn one."""

    @property
    def answers(self) -> tuple[Answer, ...]:
        return (self.answer,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A pairwise preference: two outputs, and which was preferred."""

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


def with_splits(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Each row with its split: the one its source names, or else one drawn by its prompt (80, 10 and 10 %).

    Where a source names only some splits, a missing one is drawn from its train rows.
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
    prompts = {split: {row.prompt for data in sets.values() for row in data.of(split)} for split in Split}
    test = prompts[Split.TEST]
    held_out: dict[Split | None, set[str]] = {Split.TRAIN: test | prompts[Split.VALIDATION], Split.VALIDATION: test}
    separated = {}
    for name, data in sets.items():
        kept = tuple(row for row in data.rows if row.split and row.prompt not in held_out.get(row.split, ()))
        dropped = {"prompt held out": len(data.rows) - len(kept)} if len(kept) < len(data.rows) else {}
        separated[name] = replace(data, rows=kept, dropped={**data.dropped, **dropped})
        for split in Split:
            rows = separated[name].of(split)
            labels = {row.liked for row in rows if isinstance(row, Thumb)}
            if not rows:
                raise DataError(
                    f"{data.source} has no rows in its {split} split",
                    "Add rows with new prompts: a prompt's rows share a split.",
                )
            if len(labels) == 1:
                kind, other = ("likes", "dislikes") if labels.pop() else ("dislikes", "likes")
                raise DataError(f"{data.source}: all {len(rows)} rows of the {split} split are {kind}", f"Add more {other}.")
    return separated


def meet(rows: Sequence[Row], order: Random) -> Iterator[tuple[Thumb, Thumb]]:
    """Liked with disliked thumbs at random, each at most once: an output in many pairs would be learned by heart."""
    likes, dislikes = ([row for row in rows if isinstance(row, Thumb) and row.liked == liked] for liked in (True, False))
    order.shuffle(likes)
    order.shuffle(dislikes)
    return zip(likes, dislikes, strict=False)


def pool(sets: Mapping[str, PreferenceSet], *, seed: int) -> PreferenceSet:
    """The train rows of all sets as pairs; thumbs that `meet` become pairs."""
    pairs: list[Row] = []
    for name, data in sets.items():
        rows = data.of(Split.TRAIN)
        pairs += [row for row in rows if isinstance(row, Pair)]
        pairs += [
            Pair(chosen=liked.answer, rejected=disliked.answer, prompt=liked.prompt, split=Split.TRAIN)
            for liked, disliked in meet(rows, generator(seed, "pool", name))
        ]
    return PreferenceSet(source="all sets together", rows=tuple(pairs))
