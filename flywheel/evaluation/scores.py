"""The verdict for scores that came from elsewhere: one number per task before and after a change."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from flywheel.config import EvaluationConfig, parse
from flywheel.core.statistics import Array
from flywheel.errors import DataError
from flywheel.evaluation.evidence import Measured, gather
from flywheel.evaluation.verdict import Comparison

Scores = Iterable[float | None] | Mapping[str, float | None]
"""One score per task: in an order of tasks, or by task. None and NaN are no score."""


def compare_scores(
    before: Scores,
    after: Scores,
    *,
    rewards: tuple[Scores, Scores] | None = None,
    lengths: tuple[Scores, Scores] | None = None,
    names: tuple[str, str] = ("before", "after"),
    confidence: float = 0.95,
    margin: float = 0.02,
) -> Comparison:
    """Whether ``after`` is better than ``before``, from one score per task of a judge that took no part in selecting.

    A task with several samples has their mean as its score. Sequences are paired by position, mappings by key; a task that
    has no score on one side is left out. With ``rewards`` (before, after) of the score that selected, the verdict can be
    *proxy-only*; with ``lengths`` (before, after) of the outputs, the difference is also reported at equal length.
    Raises DataError for sequences of unequal length, no common task, or a score that is not a number.
    """
    settings = {"tasks": "-", "judge": "scores:scores", "samples": 1, "confidence": confidence, "margin": margin}
    config = parse(EvaluationConfig, settings, "compare_scores")
    if len(names) != 2:
        raise DataError(f"names must be a pair, got {names!r}", "Pass `names=(before, after)`.")
    figures = _paired({"scores": (before, after), "rewards": rewards, "lengths": lengths})
    scores, missing = figures["scores"], (None, None)
    reward, tokens = figures.get("rewards", missing), figures.get("lengths", missing)
    prices = ({}, {}) if lengths is None else _length_prices(scores, figures["lengths"])
    left, right = (
        Measured(name=names[side], judge=scores[side], reward=reward[side], tokens=tokens[side], **prices[side])
        for side in (0, 1)
    )
    return Comparison(gather(left, right, config))


def _length_prices(scores: tuple[Array, Array], lengths: tuple[Array, Array]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What length is worth to the judge: with one output per task it can only be measured between tasks."""
    if min(lengths[0].min(), lengths[1].min()) < 0:
        raise DataError("lengths must not be negative", "Pass lengths in tokens, words or characters.")
    before, after = np.log1p(lengths[0]), np.log1p(lengths[1])
    change, gain = after - before, scores[1] - scores[0]
    change_off, gain_off, zero = change - change.mean(), gain - gain.mean(), np.zeros_like(change)
    return (
        {"length": before, "products": zero, "squares": zero},
        {"length": after, "products": change_off * gain_off, "squares": change_off**2},
    )


def _paired(pairs: Mapping[str, tuple[Scores, Scores] | None]) -> dict[str, tuple[Array, Array]]:
    """The pairs that are given, over the tasks that have a number everywhere."""
    given = {label: pair for label, pair in pairs.items() if pair is not None}
    for label, pair in given.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise DataError(f"{label} must be a pair, got {pair!r:.80}", f"Pass `{label}=(before, after)`.")
    scores = {f"{label} {side}": pair[place] for label, pair in given.items() for place, side in enumerate(("before", "after"))}
    columns = {name: _by_task(name, column) for name, column in scores.items()}
    kinds = {isinstance(column, Mapping) for column in scores.values()}
    if len(kinds) > 1:
        raise DataError("scores mix mappings and sequences", "Pass all as mappings or all as sequences.")
    if kinds == {False} and len(set(map(len, columns.values()))) > 1:
        sizes = ", ".join(f"{name} has {len(column):,}" for name, column in columns.items())
        raise DataError(f"scores of unequal length: {sizes}", "Pass one score per task, or None where it is missing.")
    values = np.array([[column.get(task, math.nan) for task in columns["scores before"]] for column in columns.values()])
    arrays = values[:, np.isfinite(values).all(axis=0)]
    if not arrays.size:
        hint = "Pass numbers for the same tasks, as lists in the same order or as mappings by task."
        raise DataError(f"no task has a number in each of {', '.join(columns)}", hint)
    return dict(zip(given, zip(arrays[::2], arrays[1::2], strict=True), strict=True))


def _by_task(name: str, column: Scores) -> dict[object, float]:
    """The numbers of a column by task, or by position; NaN for None."""
    if isinstance(column, str | bytes) or not isinstance(column, Iterable):
        raise DataError(
            f"{name} must be a list or mapping of scores, got {column!r:.80}", "Pass numbers, or None for a missing one."
        )
    numbers: dict[object, float] = {}
    for task, value in column.items() if isinstance(column, Mapping) else enumerate(column):
        try:
            numbers[task] = math.nan if value is None else float(value)
        except (TypeError, ValueError):
            numbers[task] = math.inf
        if math.isinf(numbers[task]) or isinstance(value, str):
            hint = "Pass finite numbers, or None where a score is missing."
            raise DataError(f"{name}[{task!r}] is {value!r}, not a finite number", hint)
    return numbers
