"""What an export reads: selected candidates and pairs of a round, block by block, and facts for its dataset card."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.store.reading import diversity, drop_reasons, policies, query


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """The candidate of a task that a policy selects; for the policy ``best`` it is a row of the view ``dataset``."""

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
    margin: float
    round: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFacts:
    """What a dataset card says about a round."""

    name: str
    summary: dict[str, Any]
    dropped: list[dict[str, Any]]
    policies: list[dict[str, Any]]
    diversity: dict[str, Any] | None
    sentences: list[str]
    """The verdict against the parent in words, then the doubts about it; empty if there is no verdict."""


def picks(path: Path, name: str, policy: str, attempts: range) -> list[Pick]:
    """The candidates of these attempts of a round that a policy selects, in order."""
    sql = (
        "SELECT g.task_id, g.instruction, g.input, g.constraints, g.output, g.reward, s.margin, g.round, g.candidate, g.tokens "
        "FROM generations AS g JOIN selections AS s USING (round, task_id, candidate) "
        "WHERE g.round = ? AND s.policy = ? AND g.attempt >= ? AND g.attempt < ? ORDER BY g.attempt"
    )
    return [Pick(**row) for row in query(path, sql, [name, policy, attempts.start, attempts.stop]).as_dicts()]


def pairs(path: Path, name: str, attempts: range) -> list[Pair]:
    """The winner of each task and its worst finished candidate, if that has another output and a lower reward."""
    sql = """
        WITH finished AS (
            SELECT * FROM generations WHERE round = ? AND attempt >= ? AND attempt < ? AND finish_reason = 'stop'
        )
        SELECT
            best.task_id, best.instruction, best.input, best.constraints, best.output AS chosen, worst.output AS rejected,
            best.reward AS chosen_reward, worst.reward AS rejected_reward, best.reward - worst.reward AS margin, best.round
        FROM finished AS best
        JOIN finished AS worst
            ON worst.task_id = best.task_id AND worst.reward < best.reward AND worst.output <> best.output
        WHERE best.won
        QUALIFY row_number() OVER (PARTITION BY best.task_id ORDER BY worst.reward, worst.candidate) = 1
        ORDER BY best.attempt
    """
    return [Pair(**row) for row in query(path, sql, [name, attempts.start, attempts.stop]).as_dicts()]


def selected(path: Path, name: str) -> bool:
    """Whether all winners of a round are selected."""
    sql = "SELECT 1 FROM stages WHERE round = ? AND stage = 'select' AND finished_at IS NOT NULL"
    return bool(query(path, sql, [name]).rows)


def facts(path: Path, name: str, source: str) -> RoundFacts:
    """What a card says about a round; ``source`` is the round that has its tasks and candidates (see `Round.tasks_of`)."""
    sql = "SELECT evidence FROM verdicts AS v JOIN rounds AS r USING (round) WHERE round = ? AND base = r.parent"
    verdicts = query(path, sql, [name]).rows
    evidence = json.loads(verdicts[0][0]) if verdicts else {}
    counts = "SELECT proposed, kept, candidates, winners FROM rounds_summary WHERE round = ?"
    outcome = "SELECT status, verdict, judge, reward FROM rounds_summary WHERE round = ?"
    return RoundFacts(
        name=name,
        summary=query(path, counts, [source]).as_dicts()[0] | query(path, outcome, [name]).as_dicts()[0],
        dropped=drop_reasons(path, source).as_dicts(),
        policies=policies(path, source).as_dicts(),
        diversity=next(iter(diversity(path, source).as_dicts()), None),
        sentences=[evidence["sentence"], *evidence.get("doubts", [])] if evidence else [],
    )
