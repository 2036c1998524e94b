"""The store of a workspace: what the loop writes and what the stations read, as records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flywheel.records import (
    Candidate,
    Chunk,
    CurvePoint,
    FinishReason,
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
    Task,
    Winner,
)
from flywheel.store.columns import WRITERS, append, by_type, insert, insert_model, task_columns
from flywheel.store.database import connection
from flywheel.store.facts import facts_from_json
from flywheel.store.migrating import migrate

if TYPE_CHECKING:
    pass


BLOCK = 4096
"""Tasks whose rows the stations have in memory at once: a round may have any number."""
BULK = 16_384
"""Tasks whose texts are read at once where nothing is done with them but writing them elsewhere."""
EVERY = range(2**63 - 1)
"""All attempts of a round."""
OF_ROUNDS = (
    *("rounds", "stages", "failed_chunks", "tasks", "candidates", "scores", "selections"),
    *("evaluations", "evaluation_scores", "metrics", "verdicts"),
)
"""Tables whose rows belong to a round."""
ROUND_JSON = ("identity", "config", "versions", "engine")
"""Columns of a round that hold JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a stage is."""

    chunks: int
    finished: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Held-out outputs of a round, one row an output, sorted by task and sample."""

    task_ids: list[str]
    samples: NDArray[np.int_]
    outputs: list[str]
    stop: NDArray[np.float64]
    """1 where the output ended by itself."""
    tokens: NDArray[np.float64]
    scores: Mapping[str, NDArray[np.float64]]
    """By model id; ``nan`` where it gave none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCandidates:
    """The candidates of a round that the judge gave a number, one row a candidate, sorted by task and position."""

    task_ids: NDArray[np.object_]
    candidates: NDArray[np.int_]
    reward: NDArray[np.float64]
    judge: NDArray[np.float64]
    tokens: NDArray[np.float64]
    stop: NDArray[np.bool_]
    picked: Mapping[str, NDArray[np.bool_]]
    """By policy: whether it picked this candidate."""


class Store:
    """One DuckDB file. Every method opens it, does one thing in one transaction, and closes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def migrate(self) -> None:
        """Create the tables, or bring an older database up to date."""
        migrate(self.path)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever recorded: no model and no round."""
        with connection(self.path) as db:
            return db.execute("SELECT 1 FROM models UNION ALL SELECT 1 FROM rounds LIMIT 1").fetchone() is None

    # Models

    def record_model(self, model: Model, curve: Sequence[CurvePoint] = ()) -> None:
        """Record a model with its learning curve; one that is there already gets its path, and is no longer pruned."""
        with connection(self.path, read_only=False) as db:
            known = db.execute("SELECT 1 FROM models WHERE model_id = ?", [model.model_id]).fetchone()
            insert_model(db, model)
            if known is None:
                insert(db, "learning_curves", curve, model_id=model.model_id)

    def mark_pruned(self, model_ids: Sequence[str]) -> None:
        """Record that the folders of these models are removed."""
        with connection(self.path, read_only=False) as db:
            db.execute("UPDATE models SET pruned_at = now() WHERE list_contains(?, model_id)", [list(model_ids)])

    def learning_curve(self, model_id: str) -> list[CurvePoint]:
        """What the trainer told of a model, in order."""
        with connection(self.path) as db:
            rows = db.execute(
                "SELECT step, name, value FROM learning_curves WHERE model_id = ? ORDER BY step, name", [model_id]
            ).fetchall()
        return [CurvePoint(step=step, name=name, value=value) for step, name, value in rows]

    def record_merge_trials(self, members: str, trials: Sequence[MergeTrial]) -> None:
        """Keep what a search has tried, in place of an earlier search of the same members."""
        columns = {field.name: [getattr(one, field.name) for one in trials] for field in fields(MergeTrial)}
        for name in ("weights", "accuracies"):
            columns[name] = [json.dumps(value) for value in columns[name]]
        with connection(self.path, read_only=False) as db:
            db.execute("DELETE FROM merge_trials WHERE members = ?", [members])
            append(db, "merge_trials", columns, members=members)

    def model(self, model_id: str) -> Model:
        """The model with this id; raises KeyError."""
        found = self._models("model_id = ?", [model_id])
        if not found:
            raise KeyError(model_id)
        return found[0]

    def models(self, kind: ModelKind) -> list[Model]:
        """All models of a kind, oldest first."""
        return self._models("kind = ?", [str(kind)])

    def all_models(self) -> list[Model]:
        """Every recorded model, oldest first."""
        return self._models("true", [])

    def _models(self, condition: str, values: Sequence[Any]) -> list[Model]:
        columns = "kind, name, path, digest, parent, recipe, facts, pruned_at"
        with connection(self.path) as db:
            rows = db.execute(f"SELECT {columns} FROM models WHERE {condition} ORDER BY created_at", values).fetchall()
        return [
            Model(
                kind=ModelKind(kind), name=name, path=path, digest=digest, parent=parent,
                recipe=json.loads(recipe), facts=facts_from_json(facts), pruned_at=pruned_at,
            )
            for kind, name, path, digest, parent, recipe, facts, pruned_at in rows
        ]  # fmt: skip

    # Rounds and stages

    def rounds(self, *, controls: bool = False) -> list[Round]:
        """All turns of the wheel in order, and the controls beside them where they are asked for."""
        names = [field.name for field in fields(Round)]
        with connection(self.path) as db:
            rows = db.execute(
                f"SELECT {', '.join(names)} FROM rounds WHERE policy = 'best' OR ? ORDER BY number, policy <> 'best', round",
                [controls],
            ).fetchall()
        found = []
        for row in rows:
            values = dict(zip(names, row, strict=True))
            for name in ROUND_JSON:
                values[name] = json.loads(values[name])
            found.append(Round(**values | {"policy": Policy(values["policy"])}))
        return found

    def open_round(self, opened: Round) -> None:
        """Record a new round."""
        values = {field.name: getattr(opened, field.name) for field in fields(Round)}
        for name in ROUND_JSON:
            values[name] = json.dumps(values[name])
        with connection(self.path, read_only=False) as db:
            db.execute(
                f"INSERT INTO rounds ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})", list(values.values())
            )

    def set_reward_model(self, changed: Round) -> None:
        """Record the reward model of a round that was opened without one, and what that makes of its identity."""
        with connection(self.path, read_only=False) as db:
            db.execute(
                "UPDATE rounds SET reward_model = ?, identity = ?, fingerprint = ? WHERE round = ?",
                [changed.reward_model, json.dumps(changed.identity), changed.fingerprint, changed.round],
            )

    def set_status(self, name: str, status: str) -> None:
        """Mark a round running or failed."""
        with connection(self.path, read_only=False) as db:
            db.execute("UPDATE rounds SET status = ? WHERE round = ?", [status, name])

    def finish_round(self, name: str, metrics: Sequence[Metric], verdict: tuple[str, str, Mapping[str, Any]] | None) -> None:
        """Mark a round done, with its figures and its (base, verdict, evidence) against its parent."""
        with connection(self.path, read_only=False) as db:
            db.execute("DELETE FROM metrics WHERE round = ? AND list_contains(?, name)", [name, [one.name for one in metrics]])
            insert(db, "metrics", metrics, round=name)
            if verdict:
                base, word, evidence = verdict
                db.execute("DELETE FROM verdicts WHERE round = ? AND base = ?", [name, base])
                db.execute(
                    "INSERT INTO verdicts (base, round, verdict, evidence) VALUES (?, ?, ?, ?)",
                    [base, name, word, json.dumps(evidence)],
                )
            db.execute("UPDATE rounds SET status = 'done', finished_at = now() WHERE round = ?", [name])

    def discard_unfinished(self) -> None:
        """Delete the rounds that are not done, with all their rows and the generators that they trained."""
        for one in self.rounds(controls=True):
            if one.status != "done":
                self._discard_round(one.round)

    def _discard_round(self, name: str) -> None:
        with connection(self.path, read_only=False) as db:
            # Another will be trained into the same folder.
            db.execute(
                "DELETE FROM models WHERE kind = 'generator' AND model_id IN "
                "(SELECT generator_out FROM rounds WHERE round = ? AND number > 0)",
                [name],
            )
            for table in OF_ROUNDS:
                db.execute(f"DELETE FROM {table} WHERE round = ?", [name])

    def progress(self, name: str, stage: Stage) -> Progress:
        """How far a stage of a round is; begins it where it has not begun."""
        with connection(self.path, read_only=False) as db:
            db.execute("INSERT OR IGNORE INTO stages (round, stage) VALUES (?, ?)", [name, str(stage)])
            row = db.execute(
                "SELECT chunks, finished_at IS NOT NULL FROM stages WHERE round = ? AND stage = ?", [name, str(stage)]
            ).fetchone()
        assert row is not None
        return Progress(chunks=row[0], finished=row[1])

    def commit(self, name: str, stage: Stage, chunk: Chunk[Any], *, seconds: float, cost: float = 0.0) -> None:
        """Write a chunk's rows and the stage's progress in one transaction."""
        with connection(self.path, read_only=False) as db:
            for record_type, rows in by_type([*chunk.rows, *chunk.metrics]).items():
                WRITERS[record_type](db, name, rows)
            db.execute(
                "UPDATE stages SET chunks = chunks + 1, rows = rows + ?, tokens = tokens + ?, "
                "prompt_tokens = prompt_tokens + ?, seconds = seconds + ?, cost = cost + ?, "
                "finished_at = CASE WHEN ? THEN now() END WHERE round = ? AND stage = ?",
                [len(chunk.rows), chunk.tokens, chunk.prompt_tokens, seconds, cost, chunk.last, name, str(stage)],
            )

    # What the stations read

    def proposed_so_far(self, name: str) -> ProposalProgress:
        """How far the proposing of a round is."""
        with connection(self.path) as db:
            row = db.execute(
                "SELECT count(*), count(*) FILTER (kept), coalesce(sum(tokens), 0) FROM tasks "
                "WHERE round = ? AND origin = 'proposed'",
                [name],
            ).fetchone()
        assert row is not None
        return ProposalProgress(attempts=row[0], kept=row[1], tokens=int(row[2]))

    def paraphrased_so_far(self, name: str) -> int:
        """How many paraphrases of a round were kept."""
        with connection(self.path) as db:
            row = db.execute(
                "SELECT count(*) FROM tasks WHERE round = ? AND origin = 'paraphrased' AND kept", [name]
            ).fetchone()
        assert row is not None
        return int(row[0])

    def kept_tasks(self, names: Sequence[str]) -> Iterator[Task]:
        """Every kept task of these rounds, paraphrases too, in the order they were written; read block by block."""
        for name in (one.round for one in self.rounds() if one.round in names):
            for origin in (Origin.PROPOSED, Origin.PARAPHRASED):
                for attempts in self.spans(name, BLOCK, origin):
                    yield from self.tasks_of(name, attempts, origin)

    def spans(self, name: str, size: int, origin: Origin = Origin.PROPOSED) -> list[range]:
        """The kept tasks of a round in groups of ``size``, in order: from which attempt to which each of them goes."""
        with connection(self.path) as db:
            rows = db.execute(
                "SELECT min(attempt), max(attempt) + 1 FROM ("
                "SELECT attempt, (row_number() OVER (ORDER BY attempt) - 1) // ? AS span "
                "FROM tasks WHERE round = ? AND kept AND origin = ?) GROUP BY span ORDER BY span",
                [size, name, str(origin)],
            ).fetchall()
        return [range(first, end) for first, end in rows]

    def tasks_of(self, name: str, attempts: range, origin: Origin = Origin.PROPOSED) -> list[Task]:
        """The kept tasks of these attempts of a round, in order."""
        with connection(self.path) as db:
            rows = db.execute(
                "SELECT instruction, input, constraints FROM tasks "
                "WHERE round = ? AND kept AND origin = ? AND attempt >= ? AND attempt < ? ORDER BY attempt",
                [name, str(origin), attempts.start, attempts.stop],
            ).fetchall()
        return [Task(instruction=instruction, input=text, constraints=constraints) for instruction, text, constraints in rows]

    def tasks(self, name: str) -> Iterator[ProposedTask]:
        """The kept tasks of a round that are answered, in the order they were proposed; read block by block."""
        for attempts in self.spans(name, BULK):
            with connection(self.path) as db:
                rows = db.execute(
                    "SELECT instruction, input, constraints, demos FROM tasks "
                    "WHERE round = ? AND kept AND origin = 'proposed' AND attempt >= ? AND attempt < ? ORDER BY attempt",
                    [name, attempts.start, attempts.stop],
                ).fetchall()
            for instruction, text, constraints, demos in rows:
                task = Task(instruction=instruction, input=text, constraints=constraints)
                yield ProposedTask(task=task, demos=tuple(demos))

    def demos(self, name: str) -> dict[str, Task]:
        """The tasks of earlier rounds that a round's prompts have shown, by id."""
        with connection(self.path) as db:
            rows = db.execute(
                "SELECT DISTINCT ON (t.task_id) t.task_id, t.instruction, t.input, t.constraints FROM tasks AS t "
                "WHERE t.kept AND t.round <> ? AND t.task_id IN (SELECT DISTINCT unnest(demos) FROM tasks WHERE round = ?)",
                [name, name],
            ).fetchall()
        return {
            task_id: Task(instruction=instruction, input=text, constraints=constraints)
            for task_id, instruction, text, constraints in rows
        }

    def candidates(self, name: str, attempts: range = EVERY, *, policy: Policy | None = None) -> dict[str, list[Candidate]]:
        """The candidates of each task of a round, by task id, in order: all of them, or those that one policy picked."""
        names = [field.name for field in fields(Candidate)]
        picked = "AND (task_id, candidate) IN (SELECT (task_id, candidate) FROM selections WHERE round = ? AND policy = ?) "
        with connection(self.path) as db:
            rows = db.execute(
                f"SELECT {', '.join(names)} FROM candidates WHERE round = ? AND task_id IN ({_ANSWERED}) "
                f"{picked if policy else ''}ORDER BY task_id, candidate",
                [name, name, attempts.start, attempts.stop, *([name, str(policy)] if policy else [])],
            ).fetchall()
        found: dict[str, list[Candidate]] = {}
        for row in rows:
            values = dict(zip(names, row, strict=True))
            values["finish_reason"] = FinishReason(values["finish_reason"])
            found.setdefault(values["task_id"], []).append(Candidate(**values))
        return found

    def scored(self, name: str, model_id: str, attempts: range = EVERY) -> dict[str, list[Scored]]:
        """The candidates of each task of a round with what a reward model gave them; none of a task that was set aside."""
        with connection(self.path) as db:
            rows = db.execute(
                f"SELECT task_id, candidate, score FROM scores WHERE round = ? AND model_id = ? AND task_id IN ({_ANSWERED})",
                [name, model_id, name, attempts.start, attempts.stop],
            ).fetchall()
        rewards = {(task_id, candidate): score for task_id, candidate, score in rows}
        return {
            task_id: [Scored(candidate=one, reward=rewards[task_id, one.candidate]) for one in candidates]
            for task_id, candidates in self.candidates(name, attempts).items()
            if (task_id, candidates[0].candidate) in rewards
        }

    def winners(self, names: Sequence[str], *, policy: Policy = Policy.BEST, paraphrases: bool = False) -> Iterator[Winner]:
        """The winners of these rounds, oldest first, in the order their tasks were proposed; then their paraphrases.

        Another ``policy`` gives what it would have picked. Read block by block.
        """
        origins = (Origin.PROPOSED, Origin.PARAPHRASED) if paraphrases else (Origin.PROPOSED,)
        for name in (one.round for one in self.rounds() if one.round in names):
            for origin in origins:
                for attempts in self.spans(name, BULK, origin):
                    yield from self._winners_of(name, attempts, origin, policy)

    def _winners_of(self, name: str, attempts: range, origin: Origin, policy: Policy) -> list[Winner]:
        with connection(self.path) as db:
            rows = db.execute(
                "SELECT t.instruction, t.input, t.constraints, c.output FROM tasks AS t JOIN selections AS s "
                "ON s.round = t.round AND s.policy = ? "
                "AND s.task_id = CASE t.origin WHEN 'proposed' THEN t.task_id ELSE t.parent_task END "
                "JOIN candidates AS c ON c.round = s.round AND c.task_id = s.task_id AND c.candidate = s.candidate "
                "WHERE t.round = ? AND t.kept AND t.origin = ? AND t.attempt >= ? AND t.attempt < ? ORDER BY t.attempt",
                [str(policy), name, str(origin), attempts.start, attempts.stop],
            ).fetchall()
        return [
            Winner(task=Task(instruction=instruction, input=text, constraints=constraints), output=output)
            for instruction, text, constraints, output in rows
        ]

    def set_heldout(self, digest: str, held_out: Sequence[HeldOutTask]) -> None:
        """Keep a held-out set, so that the database can be read without its file."""
        with connection(self.path, read_only=False) as db:
            if not db.execute("SELECT 1 FROM heldout_tasks WHERE heldout = ? LIMIT 1", [digest]).fetchone():
                columns = task_columns([one.task for one in held_out])
                columns |= {"kind": [one.kind for one in held_out], "reference": [one.reference for one in held_out]}
                append(db, "heldout_tasks", columns, heldout=digest)

    def set_seeds(self, digest: str, seeds: Sequence[SeedTask]) -> None:
        """Keep the seeds, so that every task can be followed back to them."""
        with connection(self.path, read_only=False) as db:
            if not db.execute("SELECT 1 FROM seed_tasks WHERE seeds = ? LIMIT 1", [digest]).fetchone():
                columns = task_columns([seed.task for seed in seeds])
                columns |= {"set_name": [seed.set_name for seed in seeds], "kind": [seed.kind for seed in seeds]}
                append(db, "seed_tasks", columns, seeds=digest)

    def held_out(self, name: str, judges: Sequence[str]) -> HeldOut:
        """All held-out outputs of a round with what each of these models gave them."""
        scores = ", ".join(f"max(s.score) FILTER (s.model_id = ?) AS s{place}" for place in range(len(judges)))
        with connection(self.path) as db:
            found = db.execute(
                "SELECT e.task_id, e.sample, any_value(e.output) AS output, any_value(e.finish_reason) = 'stop' AS stop, "
                f"any_value(e.tokens) AS tokens, {scores} FROM evaluations AS e "
                "LEFT JOIN evaluation_scores AS s USING (round, task_id, sample) "
                "WHERE e.round = ? GROUP BY e.task_id, e.sample ORDER BY e.task_id, e.sample",
                [*judges, name],
            ).fetchnumpy()
        return HeldOut(
            task_ids=list(found["task_id"]),
            samples=found["sample"],
            outputs=list(found["output"]),
            stop=found["stop"].astype(float),
            tokens=found["tokens"].astype(float),
            scores={
                judge: np.ma.filled(np.ma.asarray(found[f"s{place}"]).astype(float), np.nan)
                for place, judge in enumerate(judges)
            },
        )

    def metric(self, metric: str) -> dict[str, float]:
        """A figure of every round that has it."""
        with connection(self.path) as db:
            rows = db.execute(
                "SELECT m.round, m.value FROM metrics AS m JOIN rounds AS r USING (round) WHERE m.name = ? ORDER BY r.number",
                [metric],
            ).fetchall()
        return dict(rows)

    def judged_candidates(self, name: str, reward_model: str, judge: str) -> JudgedCandidates:
        """The candidates of a round with a number of the judge's, and who picked them."""
        policies = [str(policy) for policy in Policy]
        flags = ", ".join(f"coalesce(bool_or(s.policy = '{policy}'), false) AS \"{policy}\"" for policy in policies)
        with connection(self.path) as db:
            found = db.execute(
                "SELECT c.task_id, c.candidate, any_value(r.score) AS reward, any_value(j.score) AS judge, "
                f"any_value(c.tokens) AS tokens, any_value(c.finish_reason) = 'stop' AS stop, {flags} FROM scores AS j "
                "JOIN candidates AS c ON c.round = j.round AND c.task_id = j.task_id AND c.candidate = j.candidate "
                "JOIN scores AS r ON r.round = j.round AND r.task_id = j.task_id AND r.candidate = j.candidate "
                "AND r.model_id = ? LEFT JOIN selections AS s "
                "ON s.round = j.round AND s.task_id = j.task_id AND s.candidate = j.candidate "
                "WHERE j.round = ? AND j.model_id = ? GROUP BY c.task_id, c.candidate ORDER BY c.task_id, c.candidate",
                [reward_model, name, judge],
            ).fetchnumpy()
        return JudgedCandidates(
            task_ids=np.asarray(found["task_id"]),
            candidates=np.asarray(found["candidate"]),
            reward=np.asarray(found["reward"], dtype=float),
            judge=np.asarray(found["judge"], dtype=float),
            tokens=np.asarray(found["tokens"], dtype=float),
            stop=np.asarray(found["stop"], dtype=bool),
            picked={policy: np.asarray(found[policy], dtype=bool) for policy in policies},
        )

    def judges_of(self, name: str) -> dict[str, str]:
        """Names of the judges that a round's held-out outputs have scores of, by model id."""
        with connection(self.path) as db:
            rows = db.execute(
                "SELECT model_id, name FROM models WHERE kind = 'judge' AND model_id IN "
                "(SELECT DISTINCT model_id FROM evaluation_scores WHERE round = ?) ORDER BY created_at, model_id",
                [name],
            ).fetchall()
        return dict(rows)

    def held_out_outputs(self, name: str) -> dict[str, list[str]]:
        """A round's held-out outputs by task id, in the order of the samples."""
        with connection(self.path) as db:
            rows = db.execute(
                "SELECT task_id, list(output ORDER BY sample) FROM evaluations WHERE round = ? GROUP BY task_id", [name]
            ).fetchall()
        return dict(rows)


_ANSWERED = "SELECT task_id FROM tasks WHERE round = ? AND kept AND origin = 'proposed' AND attempt >= ? AND attempt < ?"
