"""What the evaluation of a round reads: held-out outputs and judged candidates, as columns, with their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flywheel.records import Policy
from flywheel.store.database import connection


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


def held_out(path: Path, name: str, model_ids: Sequence[str]) -> HeldOut:
    """All held-out outputs of a round with the scores that these models gave them."""
    scores = "".join(f", max(s.score) FILTER (s.model_id = ?) AS score{place}" for place in range(len(model_ids)))
    with connection(path) as db:
        columns = db.execute(
            "SELECT e.task_id, e.candidate, any_value(e.output) AS output, any_value(e.finish_reason) = 'stop' AS stop, "
            f"any_value(e.tokens) AS tokens{scores} FROM evaluations AS e "
            "LEFT JOIN evaluation_scores AS s USING (round, task_id, candidate) "
            "WHERE e.round = ? GROUP BY e.task_id, e.candidate ORDER BY e.task_id, e.candidate",
            [*model_ids, name],
        ).fetchnumpy()
    return HeldOut(
        task_ids=list(columns["task_id"]),
        candidates=columns["candidate"],
        outputs=list(columns["output"]),
        stop=columns["stop"].astype(float),
        tokens=columns["tokens"].astype(float),
        scores={
            model_id: np.ma.filled(np.ma.asarray(columns[f"score{place}"]).astype(float), np.nan)
            for place, model_id in enumerate(model_ids)
        },
    )


def outputs_by_task(path: Path, name: str) -> dict[str, list[str]]:
    """The held-out outputs of a round by task id, in the order of the candidates."""
    with connection(path) as db:
        rows = db.execute(
            "SELECT task_id, list(output ORDER BY candidate) FROM evaluations WHERE round = ? GROUP BY task_id", [name]
        ).fetchall()
    return dict(rows)


def judges_of(path: Path, name: str) -> dict[str, str]:
    """Names of the judges that scored the held-out outputs of a round, by model id."""
    with connection(path) as db:
        rows = db.execute(
            "SELECT model_id, name FROM models WHERE kind = 'judge' AND model_id IN "
            "(SELECT DISTINCT model_id FROM evaluation_scores WHERE round = ?) ORDER BY created_at, model_id",
            [name],
        ).fetchall()
    return dict(rows)


def judged_candidates(path: Path, name: str, reward_model: str, judge: str) -> JudgedCandidates:
    """The candidates of a round that the judge scored, with the policies that select them."""
    policies = [str(policy) for policy in Policy]
    flags = ", ".join(f"""coalesce(bool_or(s.policy = '{policy}'), false) AS "{policy}\"""" for policy in policies)
    with connection(path) as db:
        columns = db.execute(
            "SELECT c.task_id, c.candidate, any_value(r.score) AS reward, any_value(j.score) AS judge, "
            f"any_value(c.tokens) AS tokens, any_value(c.finish_reason) = 'stop' AS stop, {flags} FROM scores AS j "
            "JOIN candidates AS c USING (round, task_id, candidate) "
            "JOIN scores AS r ON r.round = j.round AND r.task_id = j.task_id AND r.candidate = j.candidate "
            "AND r.model_id = ? LEFT JOIN selections AS s "
            "ON s.round = j.round AND s.task_id = j.task_id AND s.candidate = j.candidate "
            "WHERE j.round = ? AND j.model_id = ? GROUP BY c.task_id, c.candidate ORDER BY c.task_id, c.candidate",
            [reward_model, name, judge],
        ).fetchnumpy()
    return JudgedCandidates(
        task_ids=np.asarray(columns["task_id"]),
        candidates=np.asarray(columns["candidate"]),
        reward=np.asarray(columns["reward"], dtype=float),
        judge=np.asarray(columns["judge"], dtype=float),
        tokens=np.asarray(columns["tokens"], dtype=float),
        stop=np.asarray(columns["stop"], dtype=bool),
        picked={policy: np.asarray(columns[policy], dtype=bool) for policy in policies},
    )


def metric(path: Path, metric: str) -> dict[str, float]:
    """One metric of every round that has it."""
    with connection(path) as db:
        rows = db.execute(
            "SELECT m.round, m.value FROM metrics AS m JOIN rounds AS r USING (round) WHERE m.name = ? ORDER BY r.number",
            [metric],
        ).fetchall()
    return dict(rows)
