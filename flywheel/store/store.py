"""The store of a workspace: what a round writes and what its stages read, as records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from flywheel.records import (
    Candidate,
    Chunk,
    CurvePoint,
    HeldOutTask,
    MergeTrial,
    Metric,
    Model,
    ModelKind,
    Origin,
    Policy,
    ProposalProgress,
    ProposedTask,
    Round,
    Scored,
    SeedTask,
    Stage,
    StageProgress,
    Task,
    Winner,
)
from flywheel.store import rows
from flywheel.store.database import connection
from flywheel.store.migrating import migrate

BLOCK = 4096
"""Tasks whose rows a stage has in memory at once: a round may have any number."""
BULK = 16_384
"""Tasks whose texts are read at once to be copied elsewhere."""
ALL_ATTEMPTS = range(2**63 - 1)
_KEPT = "round = ? AND kept AND origin = ? AND attempt >= ? AND attempt < ?"
_ANSWERED = f"task_id IN (SELECT task_id FROM tasks WHERE {_KEPT})"


class Store:
    """One DuckDB file. Every method opens it, does one thing in one transaction, and closes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def migrate(self) -> None:
        """Create the tables, or upgrade an older database."""
        migrate(self.path)

    @property
    def is_empty(self) -> bool:
        """Whether no model and no round is recorded."""
        return not self._read("SELECT 1 FROM models UNION ALL SELECT 1 FROM rounds LIMIT 1")

    def _read(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with connection(self.path) as db:
            return db.execute(sql, values).fetchall()

    def _write(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with connection(self.path, read_only=False) as db:
            return db.execute(sql, values).fetchall()

    # Models

    def record_model(self, model: Model, curve: Sequence[CurvePoint] = ()) -> None:
        """Record a model with its learning curve; one that is already recorded gets the new path and is no longer pruned."""
        with connection(self.path, read_only=False) as db:
            recorded = db.execute("SELECT 1 FROM models WHERE model_id = ?", [model.model_id]).fetchall()
            rows.insert_model(db, model)
            if not recorded:
                rows.insert(db, "learning_curves", curve, model_id=model.model_id)

    def mark_pruned(self, model_ids: Sequence[str]) -> None:
        """Record that the folders of these models are removed."""
        self._write("UPDATE models SET pruned_at = now() WHERE list_contains(?, model_id)", list(model_ids))

    def model(self, model_id: str) -> Model:
        """The model with this id; raises KeyError."""
        for model in self.models():
            if model.model_id == model_id:
                return model
        raise KeyError(model_id)

    def models(self, kind: ModelKind | None = None) -> list[Model]:
        """All models, or those of one kind, oldest first."""
        sql = f"SELECT {rows.columns_of(Model)} FROM models WHERE kind = coalesce(?, kind) ORDER BY created_at"
        return [rows.record_of(Model, row) for row in self._read(sql, str(kind) if kind else None)]

    def learning_curve(self, model_id: str) -> list[CurvePoint]:
        """The training log of a model, in order."""
        sql = "SELECT step, name, value FROM learning_curves WHERE model_id = ? ORDER BY step, name"
        return [CurvePoint(step=step, name=name, value=value) for step, name, value in self._read(sql, model_id)]

    def record_merge_trials(self, members: str, trials: Sequence[MergeTrial]) -> None:
        """Record the trials of a search, in place of an earlier search with the same members."""
        with connection(self.path, read_only=False) as db:
            db.execute("DELETE FROM merge_trials WHERE members = ?", [members])
            rows.insert(db, "merge_trials", trials, members=members)

    # Rounds and stages

    def rounds(self, *, controls: bool = False) -> list[Round]:
        """All rounds in order, and with ``controls`` the controls after the round that they belong to."""
        sql = f"SELECT {rows.columns_of(Round)} FROM rounds WHERE policy = 'best' OR ?"
        recorded = self._read(f"{sql} ORDER BY number, policy <> 'best', round", controls)
        return [rows.record_of(Round, row) for row in recorded]

    def open_round(self, new: Round) -> None:
        """Record a new round."""
        with connection(self.path, read_only=False) as db:
            rows.insert(db, "rounds", [new])

    def set_reward_model(self, changed: Round) -> None:
        """Record the reward model of a round that was opened without one, with the new identity."""
        self._write(
            "UPDATE rounds SET reward_model = ?, identity = ?, fingerprint = ? WHERE round = ?",
            *(changed.reward_model, json.dumps(changed.identity), changed.fingerprint, changed.round),
        )

    def set_status(self, name: str, status: str) -> None:
        """Mark a round running or failed."""
        self._write("UPDATE rounds SET status = ? WHERE round = ?", status, name)

    def finish_round(self, name: str, metrics: Sequence[Metric], verdict: tuple[str, str, Mapping[str, Any]] | None) -> None:
        """Mark a round done, with its metrics and its (base, verdict, evidence) against its parent."""
        with connection(self.path, read_only=False) as db:
            names = [metric.name for metric in metrics]
            db.execute("DELETE FROM metrics WHERE round = ? AND list_contains(?, name)", [name, names])
            rows.insert(db, "metrics", metrics, round=name)
            if verdict:
                base, word, evidence = verdict
                db.execute("DELETE FROM verdicts WHERE round = ? AND base = ?", [name, base])
                values = [base, name, word, json.dumps(evidence)]
                db.execute("INSERT INTO verdicts (base, round, verdict, evidence) VALUES (?, ?, ?, ?)", values)
            db.execute("UPDATE rounds SET status = 'done', finished_at = now() WHERE round = ?", [name])

    def discard_unfinished(self) -> None:
        """Delete the rounds that are not done, with all their rows and the generators that they trained."""
        for name in (row.round for row in self.rounds(controls=True) if row.status != "done"):
            with connection(self.path, read_only=False) as db:
                # Another generator will be trained into the same folder.
                trained = "SELECT generator_out FROM rounds WHERE round = ? AND number > 0"
                db.execute(f"DELETE FROM models WHERE kind = 'generator' AND model_id IN ({trained})", [name])
                for table in rows.ROUND_TABLES:
                    db.execute(f"DELETE FROM {table} WHERE round = ?", [name])

    def progress(self, name: str, stage: Stage) -> StageProgress:
        """Progress of a stage of a round, which is recorded as started."""
        sql = "INSERT INTO stages (round, stage) VALUES (?, ?) ON CONFLICT DO UPDATE SET chunks = chunks "
        ((chunks, finished),) = self._write(f"{sql} RETURNING chunks, finished_at IS NOT NULL", name, str(stage))
        return StageProgress(chunks=chunks, finished=finished)

    def commit(self, name: str, stage: Stage, chunk: Chunk[Any], *, seconds: float, cost: float = 0.0) -> None:
        """Write a chunk's rows and the stage's progress in one transaction."""
        with connection(self.path, read_only=False) as db:
            rows.insert_chunk(db, name, stage, [*chunk.rows, *chunk.metrics])
            db.execute(
                "UPDATE stages SET chunks = chunks + 1, rows = rows + ?, tokens = tokens + ?, "
                "prompt_tokens = prompt_tokens + ?, seconds = seconds + ?, cost = cost + ?, "
                "finished_at = CASE WHEN ? THEN now() END WHERE round = ? AND stage = ?",
                [len(chunk.rows), chunk.tokens, chunk.prompt_tokens, seconds, cost, chunk.last, name, str(stage)],
            )

    # Tasks

    def set_seeds(self, digest: str, seeds: Sequence[SeedTask]) -> None:
        """Record the seeds, so that every task can be traced back to them."""
        with connection(self.path, read_only=False) as db:
            rows.insert_task_file(db, "seed_tasks", seeds, seeds=digest)

    def set_heldout(self, digest: str, tasks: Sequence[HeldOutTask]) -> None:
        """Record the held-out tasks, so that the database can be read without their file."""
        with connection(self.path, read_only=False) as db:
            rows.insert_task_file(db, "heldout_tasks", tasks, heldout=digest)

    def proposed_so_far(self, name: str, origin: Origin = Origin.PROPOSED) -> ProposalProgress:
        """How many tasks of a round are proposed, or paraphrased."""
        sql = "SELECT count(*), count(*) FILTER (kept), coalesce(sum(tokens), 0)::BIGINT FROM tasks"
        ((attempts, kept, tokens),) = self._read(f"{sql} WHERE round = ? AND origin = ?", name, str(origin))
        return ProposalProgress(attempts=attempts, kept=kept, tokens=tokens)

    def spans(self, name: str, size: int, origin: Origin = Origin.PROPOSED) -> list[range]:
        """The kept tasks of a round in groups of ``size``, in order, each as the range of its attempts."""
        sql = (
            "SELECT min(attempt), max(attempt) + 1 FROM ("
            "SELECT attempt, (row_number() OVER (ORDER BY attempt) - 1) // ? AS span "
            "FROM tasks WHERE round = ? AND kept AND origin = ?) GROUP BY span ORDER BY span"
        )
        return [range(first, end) for first, end in self._read(sql, size, name, str(origin))]

    def tasks_of(self, name: str, attempts: range, origin: Origin = Origin.PROPOSED) -> list[Task]:
        """The kept tasks of these attempts of a round, in order."""
        return [row.task for row in self._proposed(name, attempts, origin)]

    def _proposed(self, name: str, attempts: range, origin: Origin) -> list[ProposedTask]:
        sql = f"SELECT instruction, input, constraints, demos FROM tasks WHERE {_KEPT} ORDER BY attempt"
        kept = self._read(sql, *_kept(name, attempts, origin))
        return [ProposedTask(task=_task(*fields), demos=tuple(demos)) for *fields, demos in kept]

    def tasks(self, name: str) -> Iterator[ProposedTask]:
        """The kept tasks of a round without paraphrases, in the order of their attempts; read block by block."""
        for attempts in self.spans(name, BULK):
            yield from self._proposed(name, attempts, Origin.PROPOSED)

    def kept_tasks(self, names: Sequence[str]) -> Iterator[Task]:
        """The kept tasks of these rounds with their paraphrases, oldest first; read block by block."""
        for block in self._blocks(names, BLOCK, (Origin.PROPOSED, Origin.PARAPHRASED)):
            yield from self.tasks_of(*block)

    def _blocks(self, names: Sequence[str], size: int, origins: Sequence[Origin]) -> Iterator[tuple[str, range, Origin]]:
        for name in (row.round for row in self.rounds() if row.round in names):
            for origin in origins:
                for attempts in self.spans(name, size, origin):
                    yield name, attempts, origin

    def demos(self, name: str) -> dict[str, Task]:
        """The tasks of earlier rounds that were demos in a round, by id."""
        sql = (
            "SELECT DISTINCT ON (t.task_id) t.task_id, t.instruction, t.input, t.constraints FROM tasks AS t "
            "WHERE t.kept AND t.round <> ? AND t.task_id IN (SELECT DISTINCT unnest(demos) FROM tasks WHERE round = ?)"
        )
        return {task_id: _task(*fields) for task_id, *fields in self._read(sql, name, name)}

    # Candidates

    def candidates(
        self, name: str, attempts: range = ALL_ATTEMPTS, *, policy: Policy | None = None
    ) -> dict[str, list[Candidate]]:
        """The candidates of each task of a round by task id, in order: all of them, or those that one policy selects."""
        sql = f"SELECT {rows.columns_of(Candidate)} FROM candidates WHERE round = ? AND {_ANSWERED}"
        if policy:
            sql += " AND (task_id, candidate) IN (SELECT (task_id, candidate) FROM selections WHERE round = ? AND policy = ?)"
        values = [name, *_kept(name, attempts), *([name, str(policy)] if policy else [])]
        groups = groupby(self._read(f"{sql} ORDER BY task_id, candidate", *values), key=itemgetter(0))
        return {task_id: [rows.record_of(Candidate, row) for row in group] for task_id, group in groups}

    def scored(self, name: str, model_id: str, attempts: range = ALL_ATTEMPTS) -> dict[str, list[Scored]]:
        """The candidates of each task of a round with the rewards of a model; tasks of failed chunks are left out."""
        sql = (
            f"SELECT score, {rows.columns_of(Candidate)} FROM candidates JOIN scores USING (round, task_id, candidate) "
            f"WHERE round = ? AND model_id = ? AND {_ANSWERED} ORDER BY task_id, candidate"
        )
        scored: dict[str, list[Scored]] = {}
        for reward, *row in self._read(sql, name, model_id, *_kept(name, attempts)):
            candidate = rows.record_of(Candidate, row)
            scored.setdefault(candidate.task_id, []).append(Scored(candidate=candidate, reward=reward))
        return scored

    def winners(self, names: Sequence[str], *, policy: Policy = Policy.BEST, paraphrases: bool = False) -> Iterator[Winner]:
        """The winners of these rounds, oldest first, in the order of their attempts; then their paraphrases.

        Another ``policy`` gives the candidates that it selects. Read block by block.
        """
        sql = (
            "SELECT t.instruction, t.input, t.constraints, c.output FROM tasks AS t "
            "JOIN selections AS s ON s.round = t.round AND s.policy = ? AND s.task_id = coalesce(t.parent_task, t.task_id) "
            "JOIN candidates AS c ON c.round = s.round AND c.task_id = s.task_id AND c.candidate = s.candidate "
            "WHERE t.round = ? AND t.kept AND t.origin = ? AND t.attempt >= ? AND t.attempt < ? ORDER BY t.attempt"
        )
        origins = (Origin.PROPOSED, Origin.PARAPHRASED) if paraphrases else (Origin.PROPOSED,)
        for block in self._blocks(names, BULK, origins):
            for *fields, output in self._read(sql, str(policy), *_kept(*block)):
                yield Winner(task=_task(*fields), output=output)


def _kept(name: str, attempts: range, origin: Origin = Origin.PROPOSED) -> tuple[str, str, int, int]:
    """Values for the condition `_KEPT`."""
    return name, str(origin), attempts.start, attempts.stop


def _task(instruction: str, text: str, constraints: str) -> Task:
    return Task(instruction=instruction, input=text, constraints=constraints)
