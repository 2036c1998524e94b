"""What an export reads: picks and pairs of a round block by block, and what its card tells of the round."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from flywheel.store.reading import diversity, drop_reasons, query

Row = TypeVar("Row", "Pick", "Pair")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """What an policy picked for a task: of the policy ``best`` a row of the view ``dataset``."""

    task_id: str
    instruction: str
    input: str
    constraints: str
    output: str
    reward: float
    margin: float | None
    round: str
    candidate: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The best and the worst finished candidate of a task."""

    task_id: str
    instruction: str
    input: str
    constraints: str
    chosen: str
    rejected: str
    chosen_reward: float
    rejected_reward: float
    round: str

    @property
    def margin(self) -> float:
        return self.chosen_reward - self.rejected_reward


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFacts:
    """What is known of a round beside its rows."""

    name: str
    summary: dict[str, Any]
    dropped: list[dict[str, Any]]
    policies: list[dict[str, Any]]
    diversity: dict[str, Any] | None
    sentences: list[str]
    """Of the verdict against its parent: what it rests on, then what speaks against it; none where it has no verdict."""


def picks(path: Path, name: str, policy: str, attempts: range) -> list[Pick]:
    """What an policy picked for these attempts of a round, in the order their tasks were proposed."""
    return _rows(
        Pick,
        path,
        "SELECT g.task_id, g.instruction, g.input, g.constraints, g.output, g.reward, s.margin, g.round, g.candidate, g.tokens "
        "FROM generations AS g JOIN selections AS s USING (round, task_id, candidate) "
        "WHERE g.round = ? AND s.policy = ? AND g.attempt >= ? AND g.attempt < ? ORDER BY g.attempt",
        [name, policy, attempts.start, attempts.stop],
    )


def pairs(path: Path, name: str, attempts: range) -> list[Pair]:
    """The winner of each task beside the worst finished candidate that says something else and has less reward."""
    return _rows(
        Pair,
        path,
        "WITH finished AS (SELECT * FROM generations WHERE round = ? AND attempt >= ? AND attempt < ? "
        "AND finish_reason = 'stop') "
        "SELECT best.task_id, best.instruction, best.input, best.constraints, best.output AS chosen, worst.output AS rejected, "
        "best.reward AS chosen_reward, worst.reward AS rejected_reward, best.round "
        "FROM finished AS best JOIN finished AS worst "
        "ON worst.task_id = best.task_id AND worst.reward < best.reward AND worst.output <> best.output WHERE best.won "
        "QUALIFY row_number() OVER (PARTITION BY best.task_id ORDER BY worst.reward, worst.candidate) = 1 "
        "ORDER BY best.attempt",
        [name, attempts.start, attempts.stop],
    )


def selected(path: Path, name: str) -> bool:
    """Whether the winners of a round are all picked."""
    sql = "SELECT 1 FROM stages WHERE round = ? AND stage = 'select' AND finished_at IS NOT NULL"
    return bool(query(path, sql, [name]).rows)


def facts(path: Path, name: str, source: str) -> RoundFacts:
    """What a card tells of a round; ``source`` is the round whose tasks and candidates it has, itself or beside it."""

    def of(sql: str, round_name: str) -> list[dict[str, Any]]:
        return query(path, sql, [round_name]).as_dicts()

    evidence = of("SELECT evidence FROM verdicts AS v JOIN rounds AS r USING (round) WHERE round = ? AND base = r.parent", name)
    found = json.loads(evidence[0]["evidence"]) if evidence else {}
    outcome = of("SELECT status, verdict, judge, reward FROM rounds_summary WHERE round = ?", name)[0]
    return RoundFacts(
        name=name,
        summary=of("SELECT proposed, kept, candidates, winners FROM rounds_summary WHERE round = ?", source)[0] | outcome,
        dropped=drop_reasons(path, source).as_dicts(),
        policies=of(
            "SELECT policy, tasks, reward, judge, judged, tokens FROM policies WHERE round = ? ORDER BY reward DESC", source
        ),
        diversity=next(iter(diversity(path, source).as_dicts()), None),
        sentences=[found["sentence"], *found.get("doubts", [])] if found else [],
    )


def _rows(kind: type[Row], path: Path, sql: str, values: list[Any]) -> list[Row]:
    names = [field.name for field in fields(kind)]
    return [kind(**dict(zip(names, row, strict=True))) for row in query(path, sql, values).rows]
