"""Held-out outputs and judged candidates of a round, as columns with their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.records import Policy
from flywheel.store.database import connection
from flywheel.store.reading import query


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Held-out outputs of a round, one row each, sorted by task and candidate."""

    task_ids: list[str]
    candidates: NDArray[np.int_]
    outputs: list[str]
    stop: NDArray[np.float64]
    """1 if the output is finished."""
    tokens: NDArray[np.float64]
    scores: Mapping[str, NDArray[np.float64]]
    """By model id; ``nan`` if the model gave none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCandidates:
    """The candidates of a round that the judge scored, one row each, sorted by task and candidate."""

    task_ids: NDArray[np.object_]
    candidates: NDArray[np.int_]
    reward: NDArray[np.float64]
    judge: NDArray[np.float64]
    tokens: NDArray[np.float64]
    stop: NDArray[np.bool_]
    picked: Mapping[str, NDArray[np.bool_]]
    """By policy: whether it selects this candidate."""


def _columns(path: Path, sql: str, *values: str) -> dict[str, Any]:
    with connection(path) as db:
        return {name: np.asarray(column) for name, column in db.execute(sql, values).fetchnumpy().items()}


def held_out(path: Path, name: str, model_ids: Sequence[str]) -> HeldOut:
    """All held-out outputs of a round with the scores that these models gave them."""
    scores = "".join(
        f", coalesce(max(s.score) FILTER (s.model_id = ?), 'nan'::DOUBLE) AS score{place}" for place in range(len(model_ids))
    )
    sql = (
        "SELECT e.task_id, e.candidate AS candidates, any_value(e.output) AS output, any_value(e.tokens)::DOUBLE AS tokens, "
        f"(any_value(e.finish_reason) = 'stop')::DOUBLE AS stop{scores} FROM evaluations AS e "
        "LEFT JOIN evaluation_scores AS s USING (round, task_id, candidate) "
        "WHERE e.round = ? GROUP BY e.task_id, e.candidate ORDER BY e.task_id, e.candidate"
    )
    columns = _columns(path, sql, *model_ids, name)
    return HeldOut(
        task_ids=list(columns.pop("task_id")),
        outputs=list(columns.pop("output")),
        scores={model_id: columns.pop(f"score{place}") for place, model_id in enumerate(model_ids)},
        **columns,
    )


def outputs_by_task(path: Path, name: str) -> dict[str, list[str]]:
    """The held-out outputs of a round by task id, in the order of the candidates."""
    sql = "SELECT task_id, list(output ORDER BY candidate) FROM evaluations WHERE round = ? GROUP BY task_id"
    return dict(query(path, sql, [name]).rows)


def judges_of(path: Path, name: str) -> dict[str, str]:
    """Names of the judges that scored the held-out outputs of a round, by model id."""
    sql = (
        "SELECT model_id, name FROM models WHERE kind = 'judge' AND model_id IN "
        "(SELECT DISTINCT model_id FROM evaluation_scores WHERE round = ?) ORDER BY created_at, model_id"
    )
    return dict(query(path, sql, [name]).rows)


def judged_candidates(path: Path, name: str, reward_model: str, judge: str) -> JudgedCandidates:
    """The candidates of a round that the judge scored, with the policies that select them."""
    flags = "".join(f""", coalesce(bool_or(s.policy = '{policy}'), false) AS "{policy}\"""" for policy in Policy)
    sql = (
        "SELECT c.task_id AS task_ids, c.candidate AS candidates, any_value(r.score) AS reward, any_value(j.score) AS judge, "
        f"any_value(c.tokens)::DOUBLE AS tokens, any_value(c.finish_reason) = 'stop' AS stop{flags} FROM scores AS j "
        "JOIN candidates AS c USING (round, task_id, candidate) "
        "JOIN scores AS r ON r.round = j.round AND r.task_id = j.task_id AND r.candidate = j.candidate AND r.model_id = ? "
        "LEFT JOIN selections AS s ON s.round = j.round AND s.task_id = j.task_id AND s.candidate = j.candidate "
        "WHERE j.round = ? AND j.model_id = ? GROUP BY c.task_id, c.candidate ORDER BY c.task_id, c.candidate"
    )
    columns = _columns(path, sql, reward_model, name, judge)
    return JudgedCandidates(picked={str(policy): columns.pop(policy) for policy in Policy}, **columns)


def metric(path: Path, metric: str) -> dict[str, float]:
    """One metric of every round that has it."""
    sql = "SELECT m.round, m.value FROM metrics AS m JOIN rounds AS r USING (round) WHERE m.name = ? ORDER BY r.number"
    return dict(query(path, sql, [metric]).rows)
