"""The verdict for scores that came from elsewhere: one number per task before and after a change."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import cast

import numpy as np

from flywheel.config import EvaluationConfig, parse
from flywheel.core.statistics import Array
from flywheel.errors import DataError
from flywheel.evaluation.compare import compare_measured
from flywheel.evaluation.evidence import Lengths, Measured
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
    config = parse(
        EvaluationConfig,
        {"tasks": "-", "judge": "scores:scores", "samples": 1, "confidence": confidence, "margin": margin},
        "compare_scores",
    )
    figures = _paired({"scores": (before, after), "rewards": rewards, "lengths": lengths})
    scores, nothing = figures["scores"], (None, None)
    reward, length = figures.get("rewards", nothing), figures.get("lengths", nothing)
    prices = _length_prices(scores, figures["lengths"]) if lengths is not None else nothing
    base, name = (
        Measured(name=names[side], judge=scores[side], reward=reward[side], tokens=length[side], lengths=prices[side])
        for side in (0, 1)
    )
    return compare_measured(base, name, config)


def _length_prices(scores: tuple[Array, Array], lengths: tuple[Array, Array]) -> tuple[Lengths, Lengths]:
    """What length is worth to the judge: with one output per task it can only be measured between tasks."""
    if min(lengths[0].min(), lengths[1].min()) < 0:
        raise DataError("a length is negative", "Pass lengths in tokens, words or characters.")
    before, after = np.log1p(lengths[0]), np.log1p(lengths[1])
    change, gain = after - before, scores[1] - scores[0]
    change_off, gain_off, zero = change - change.mean(), gain - gain.mean(), np.zeros_like(change)
    return (
        Lengths(mean=before, products=zero, squares=zero),
        Lengths(mean=after, products=change_off * gain_off, squares=change_off**2),
    )


def _paired(pairs: Mapping[str, tuple[Scores, Scores] | None]) -> dict[str, tuple[Array, Array]]:
    """The pairs that are given, over the tasks that have a number everywhere."""
    by_task: dict[str, dict[object, float]] = {}
    kinds = set()
    for label, pair in pairs.items():
        if pair is None:
            continue
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise DataError(f"{label} is not a pair", f"Pass `{label}=(before, after)`.")
        for side, column in zip(("before", "after"), pair, strict=True):
            name = f"{label} {side}"
            if isinstance(column, str | bytes) or not isinstance(column, Iterable):
                raise DataError(f"{name} is {column!r}, not scores", "Pass a list of numbers or a mapping from task to number.")
            items = column.items() if isinstance(column, Mapping) else enumerate(column)
            by_task[name] = {task: _number(value, f"{name}[{task!r}]") for task, value in items}
            kinds.add(isinstance(column, Mapping))
    if len(kinds) > 1:
        raise DataError("some scores are mappings and some are sequences", "Pass all as mappings or all as sequences.")
    if kinds == {False} and len({len(values) for values in by_task.values()}) > 1:
        sizes = ", ".join(f"{name} has {len(values):,}" for name, values in by_task.items())
        raise DataError(
            f"scores of unequal length: {sizes}", "Pass one score per task on both sides, None where there is none."
        )
    columns = by_task.values()
    tasks = [task for task in by_task["scores before"] if all(math.isfinite(column.get(task, math.nan)) for column in columns)]
    if not tasks:
        raise DataError("no task has a score on both sides", "Pass scores of the same tasks, in the same order or by task.")
    arrays = {name: np.array([values[task] for task in tasks]) for name, values in by_task.items()}
    return {label: (arrays[f"{label} before"], arrays[f"{label} after"]) for label, pair in pairs.items() if pair is not None}


def _number(value: object, where: str) -> float:
    try:
        number = math.nan if value is None else float(cast(float, value))
    except (TypeError, ValueError):
        number = math.inf
    if math.isinf(number) or isinstance(value, str):
        raise DataError(f"{where} is {value!r}, not a number", "Pass finite numbers, None where there is no score.")
    return number
