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
    columns = {"before": before, "after": after}
    for label, pair in (("rewards", rewards), ("lengths", lengths)):
        if pair is not None:
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise DataError(f"{label} is not a pair", f"Pass `{label}=(before, after)`.")
            columns |= {f"{label} before": pair[0], f"{label} after": pair[1]}
    scores = _paired(columns)
    products, squares = np.zeros_like(scores["before"]), np.zeros_like(scores["before"])
    length = {}
    if lengths is not None:
        if min(scores["lengths before"].min(), scores["lengths after"].min()) < 0:
            raise DataError("a length is negative", "Pass lengths in tokens, words or characters.")
        length = {side: np.log1p(scores[f"lengths {side}"]) for side in ("before", "after")}
        # With one output per task, the price of length is measured between tasks.
        change, moved = length["after"] - length["before"], scores["after"] - scores["before"]
        products, squares = (change - change.mean()) * (moved - moved.mean()), (change - change.mean()) ** 2
    base, name = (
        Measured(
            name=name,
            judge=scores[side],
            reward=scores.get(f"rewards {side}"),
            tokens=scores.get(f"lengths {side}"),
            lengths=Lengths(mean=length[side], products=products / 2, squares=squares / 2) if length else None,
        )
        for side, name in zip(("before", "after"), names, strict=True)
    )
    return compare_measured(base, name, config)


def _paired(columns: Mapping[str, Scores]) -> dict[str, Array]:
    """The columns over the tasks that have a number in all of them."""
    if len({isinstance(column, Mapping) for column in columns.values()}) > 1:
        raise DataError("some scores are mappings and some are sequences", "Pass all as mappings or all as sequences.")
    by_task: dict[str, dict[object, float]] = {}
    for label, column in columns.items():
        if isinstance(column, str | bytes) or not isinstance(column, Iterable):
            raise DataError(f"{label} is {column!r}, not scores", "Pass a list of numbers or a mapping from task to number.")
        items = column.items() if isinstance(column, Mapping) else enumerate(column)
        by_task[label] = {task: _number(value, f"{label}[{task!r}]") for task, value in items}
    sizes = {label: len(values) for label, values in by_task.items()}
    if not isinstance(columns["before"], Mapping) and len(set(sizes.values())) > 1:
        told = ", ".join(f"{label} has {size:,}" for label, size in sizes.items())
        raise DataError(f"scores of unequal length: {told}", "Pass one score per task on both sides, None where there is none.")
    tasks = [
        task for task in by_task["before"] if all(math.isfinite(values.get(task, math.nan)) for values in by_task.values())
    ]
    if not tasks:
        raise DataError("no task has a score on both sides", "Pass scores of the same tasks, in the same order or by task.")
    return {label: np.array([values[task] for task in tasks]) for label, values in by_task.items()}


def _number(value: object, where: str) -> float:
    try:
        number = math.nan if value is None else float(cast(float, value))
    except (TypeError, ValueError):
        number = math.inf
    if math.isinf(number) or isinstance(value, str):
        raise DataError(f"{where} is {value!r}, not a number", "Pass finite numbers, None where there is no score.")
    return number
