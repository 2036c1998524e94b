"""The store: documented, one transaction per chunk, readable by other programs."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from flywheel.errors import StoreError, StoreHeld
from flywheel.records import (
    Candidate,
    Chunk,
    CurvePoint,
    FinishReason,
    Model,
    ModelKind,
    Policy,
    Proposal,
    Round,
    Score,
    Selection,
    Stage,
    Task,
    Winner,
)
from flywheel.store import database, evaluations, opening, reading
from flywheel.store.store import Store

TASK = Task(instruction="Sort.", input="b, a")


def opened(**changes: object) -> Round:
    values = {
        "round": "r1", "number": 1, "parent": "r0", "status": "running", "seed": 0, "fingerprint": "f", "identity": {},
        "config": {}, "generator_in": "g", "generator_out": None, "reward_model": "m", "judge": "j", "versions": {},
    }  # fmt: skip
    return Round(**(values | changes))


def candidate(place: int, output: str = "a, b") -> Candidate:
    return Candidate(
        task_id=TASK.task_id, candidate=place, output=output, finish_reason=FinishReason.STOP, tokens=3, logprob=-0.5, seed=9
    )


MODEL = Model(kind=ModelKind.MEMBER, name="pairs", path="models/pairs", digest="0" * 64)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "flywheel.duckdb")
    made.migrate()
    made.open_round(opened())
    for stage in Stage:
        made.progress("r1", stage)
    proposal = Proposal(attempt=0, raw="Sort. …", demos=("x", "y", "z"), tokens=7, task=TASK)
    dropped = Proposal(attempt=1, raw="?", demos=(), tokens=1, task=None, reason="missing field")
    made.commit("r1", Stage.PROPOSE, Chunk(rows=[proposal, dropped], last=True, tokens=8), seconds=0.5)
    made.commit("r1", Stage.ANSWER, Chunk(rows=[candidate(place) for place in range(4)], last=True), seconds=1)
    scores = [Score(task_id=TASK.task_id, candidate=place, model_id="m", score=float(place)) for place in range(4)]
    made.commit("r1", Stage.SCORE, Chunk(rows=scores, last=True), seconds=1)
    best = Selection(task_id=TASK.task_id, policy=Policy.BEST, candidate=3, margin=1.0)
    made.commit("r1", Stage.SELECT, Chunk(rows=[best], last=True), seconds=1)
    return made


def test_records_are_read_back(store: Store) -> None:
    assert store.candidates("r1") == {TASK.task_id: [candidate(place) for place in range(4)]}
    assert [one.reward for one in store.scored("r1", "m")[TASK.task_id]] == [0.0, 1.0, 2.0, 3.0]
    assert list(store.winners(["r1"])) == [Winner(task=TASK, output="a, b")]
    assert next(store.tasks("r1")).demos == ("x", "y", "z")
    so_far = store.proposed_so_far("r1")
    assert (so_far.attempts, so_far.kept) == (2, 1)
    assert list(store.kept_tasks(["r1"])) == [Task(instruction="Sort.", input="b, a")]
    assert list(store.kept_tasks([])) == []
    assert store.rounds() == [opened()]


def test_a_chunk_that_fails_leaves_nothing_and_counts_nothing(store: Store) -> None:
    rows = [candidate(7), Score(task_id="t", candidate=0, model_id="m", score=None)]  # type: ignore[arg-type]
    before = store.progress("r1", Stage.ANSWER)
    with pytest.raises(duckdb.ConstraintException):
        store.commit("r1", Stage.ANSWER, Chunk(rows=rows, last=False), seconds=1)
    assert len(store.candidates("r1")[TASK.task_id]) == 4
    assert store.progress("r1", Stage.ANSWER) == before


def test_a_stage_is_finished_by_its_last_chunk(store: Store) -> None:
    assert not store.progress("r1", Stage.EVALUATE).finished
    store.commit("r1", Stage.EVALUATE, Chunk(rows=[], last=False), seconds=1)
    assert store.progress("r1", Stage.EVALUATE).chunks == 1
    store.commit("r1", Stage.EVALUATE, Chunk(rows=[], last=True), seconds=1)
    assert store.progress("r1", Stage.EVALUATE).finished


def test_discarding_a_round_leaves_the_others(store: Store) -> None:
    store.open_round(opened(round="r2", number=2, parent="r1"))
    store.set_status("r2", "done")
    store.discard_unfinished()
    assert [one.round for one in store.rounds()] == ["r2"]
    assert store.candidates("r1") == {}


def test_discarding_a_round_deletes_the_generator_that_it_trained(store: Store) -> None:
    def trained(name: str) -> Model:
        return Model(kind=ModelKind.GENERATOR, name=name, path=f"models/generator-{name}", digest=name * 32)

    store.open_round(opened(round="r0", number=0, parent=None, generator_out=trained("r0").model_id))
    store.record_model(trained("r0"))
    store.commit("r1", Stage.TRAIN, Chunk(rows=[trained("r1")], last=True), seconds=1)
    assert store.models(ModelKind.GENERATOR) == [trained("r0"), trained("r1")]
    store.discard_unfinished()
    # The next r1 is trained into the same folder; r0's generator is not of its making.
    assert store.models(ModelKind.GENERATOR) == [trained("r0")]


def test_a_pruned_model_that_is_recorded_again_has_the_new_path_and_is_no_longer_pruned(store: Store) -> None:
    store.record_model(MODEL)
    store.mark_pruned([MODEL.model_id])
    assert store.model(MODEL.model_id).pruned_at is not None
    moved = replace(MODEL, path="models/elsewhere")
    store.record_model(moved)
    assert store.models() == [moved]


def test_views_answer_the_daily_questions(store: Store) -> None:
    dataset = reading.query(store.path, "SELECT round, instruction, output, reward, margin FROM dataset")
    assert dataset.rows == [("r1", "Sort.", "a, b", 3.0, 1.0)]
    curve = reading.query(store.path, "SELECT n, reward FROM best_of_n_curve ORDER BY n").rows
    # Of 0, 1, 2, 3: the mean, then the expected maximum of 2, 3 and 4 drawn without replacement.
    assert [(n, pytest.approx(reward)) for n, reward in curve] == [(1, 1.5), (2, 7 / 3), (3, 2.75), (4, 3.0)]
    summary = reading.rounds_summary(store.path).as_dicts()[0]
    assert (summary["proposed"], summary["kept"], summary["candidates"], summary["winners"]) == (2, 1, 4, 1)


def test_every_table_and_view_and_each_of_their_columns_is_documented(store: Store) -> None:
    rows = reading.schema(store.path).as_dicts()
    assert not {row["table"] for row in rows if not row["meaning"]}
    assert not [(row["table"], row["column"]) for row in rows if not row["about"]]


def test_held_out_outputs_have_tables_of_their_own(store: Store) -> None:
    outputs = [candidate(number, f"output {number}") for number in range(2)]
    scores = [Score(task_id=TASK.task_id, candidate=1, model_id="j", score=0.5)]
    store.commit("r1", Stage.EVALUATE, Chunk(rows=[*outputs, *scores], last=True), seconds=1)
    held_out = evaluations.held_out(store.path, "r1", ["j", "m"])
    assert held_out.outputs == ["output 0", "output 1"]
    assert [list(held_out.scores[model_id]) for model_id in ("j", "m")] == [
        [pytest.approx(math.nan, nan_ok=True), 0.5],
        [pytest.approx(math.nan, nan_ok=True)] * 2,
    ]
    assert evaluations.outputs_by_task(store.path, "r1") == {TASK.task_id: ["output 0", "output 1"]}
    assert len(store.candidates("r1")[TASK.task_id]) == 4


def test_judged_candidates_say_which_policies_select_them(store: Store) -> None:
    store.commit(
        "r1",
        Stage.JUDGE,
        Chunk(rows=[Score(task_id=TASK.task_id, candidate=number, model_id="j", score=0.5) for number in (1, 3)], last=True),
        seconds=1,
    )
    judged = evaluations.judged_candidates(store.path, "r1", "m", "j")
    assert (list(judged.candidates), list(judged.reward), list(judged.judge)) == ([1, 3], [1.0, 3.0], [0.5, 0.5])
    assert list(judged.picked[Policy.BEST]) == [False, True]
    assert not any(judged.picked[Policy.MAX_LOGPROB])


def test_a_round_has_one_of_three_states(store: Store) -> None:
    with pytest.raises(duckdb.ConstraintException):
        store.set_status("r1", "lost")


def test_plain_duckdb_reads_the_file(store: Store) -> None:
    with duckdb.connect(str(store.path), read_only=True) as db:
        assert db.sql("SELECT count(*) FROM candidates").fetchall() == [(4,)]


@pytest.mark.parametrize(
    ("sql", "part"),
    [
        ("DELETE FROM tasks", reading.READS_ONLY),
        ("CREATE TABLE x (y INTEGER)", reading.READS_ONLY),
        ("SELEC 1", "SELEC"),
        ("SELECT nothing FROM tasks", "nothing"),
        ("SELECT * FROM read_csv('/etc/passwd')", reading.READS_ONLY),
        ("COPY tasks TO '/tmp/tasks.csv'", reading.READS_ONLY),
    ],
)
def test_sql_reads_the_store_and_nothing_else(store: Store, sql: str, part: str) -> None:
    with pytest.raises(StoreError) as error:
        reading.query(store.path, sql)
    assert part in error.value.message
    assert error.value.hint
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flywheel.duckdb"
    path.write_bytes(b"not a database" * 400)
    with pytest.raises(StoreError) as error:
        Store(path).rounds()
    assert str(path) in error.value.message
    assert error.value.hint


def test_a_model_recorded_twice_keeps_its_first_learning_curve(store: Store) -> None:
    for value in (0.5, 0.4):
        store.record_model(MODEL, [CurvePoint(step=1, name="loss", value=value)])
    assert [point.value for point in store.learning_curve(MODEL.model_id)] == [0.5]


def test_times_are_read_by_sql(store: Store) -> None:
    (row,) = reading.query(store.path, "SELECT * FROM rounds").as_dicts()
    assert row["started_at"].tzinfo is not None


def test_a_writer_waits_for_a_reader_of_another_process(store: Store) -> None:
    hold = (
        "import duckdb, sys, time; db = duckdb.connect(sys.argv[1], read_only=True); print('open', flush=True); time.sleep(1.5)"
    )
    reader = subprocess.Popen([sys.executable, "-c", hold, str(store.path)], stdout=subprocess.PIPE)
    assert reader.stdout is not None
    reader.stdout.readline()
    started = time.monotonic()
    store.set_status("r1", "done")
    assert time.monotonic() - started > 0.3
    assert store.rounds()[0].status == "done"
    reader.wait()


def test_a_file_that_is_held_for_too_long_is_reported_with_the_process(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = "import duckdb, sys, time; db = duckdb.connect(sys.argv[1]); print('open', flush=True); time.sleep(30)"
    writer = subprocess.Popen([sys.executable, "-c", hold, str(store.path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    try:
        monkeypatch.setattr(opening, "WAIT_TO_READ_S", 0.2)
        with pytest.raises(StoreHeld) as error, database.connection(store.path):
            pass
        assert str(writer.pid) in error.value.message
    finally:
        writer.kill()
        writer.wait()


def test_readers_and_the_writer_of_one_process_take_turns(store: Store) -> None:
    def read() -> None:
        for _ in range(20):
            store.candidates("r1")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for place in range(10):
        store.commit("r1", Stage.ANSWER, Chunk(rows=[candidate(10 + place)], last=False), seconds=0)
    for reader in readers:
        reader.join()
    assert len(store.candidates("r1")[TASK.task_id]) == 14


def test_the_memory_of_the_database_is_limited_and_can_be_set(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = "SELECT current_setting('memory_limit')"
    share = reading.query(store.path, limit).rows
    monkeypatch.setenv(opening.MEMORY, "256MiB")
    assert reading.query(store.path, limit).rows == [("256.0 MiB",)] != share
    monkeypatch.setenv(opening.MEMORY, "much")
    with pytest.raises(StoreError) as error:
        reading.query(store.path, limit)
    assert opening.MEMORY in error.value.message
    assert "much" in error.value.message
    assert "25%" in error.value.hint


def test_what_does_not_fit_into_memory_is_spilled_beside_the_database(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sorting = "SELECT count(*) FROM (SELECT range FROM range(4_000_000) ORDER BY hash(range), range LIMIT 3_000_000)"
    monkeypatch.setenv(opening.MEMORY, "40MiB")
    assert reading.query(store.path, sorting).rows == [(3_000_000,)]
    assert not store.path.with_name("flywheel.duckdb.tmp").exists(), "it is removed at the end"


def test_a_statement_that_needs_more_than_the_memory_limit_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(opening.MEMORY, "50MiB")
    with pytest.raises(StoreError) as error:
        reading.query(store.path, "SELECT len(list(range)) FROM range(20_000_000)")
    assert "50MiB" in error.value.message
    assert opening.MEMORY in error.value.hint
