"""Whole rounds on the real libraries: what is kept, what repeats, what survives a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from flywheel.core.progress import Silent
from flywheel.errors import RESUME, ConfigError, DataError, ModelError, WorkspaceHeld
from flywheel.records import Stage
from flywheel.round.loop import run_next_round
from flywheel.store import reading
from flywheel.workspace import Workspace
from tests.conftest import copy

DATASET = "SELECT * EXCLUDE (round) FROM dataset ORDER BY ALL"


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    return reading.query(folder / "flywheel.duckdb", sql).rows


def test_every_kept_task_has_all_its_candidates_and_every_candidate_its_score(turned: Path) -> None:
    assert rows(turned, "SELECT round, count(*) FROM candidates GROUP BY ALL ORDER BY ALL") == [("r1", 320), ("r2", 320)]
    assert rows(turned, "SELECT round, count(*) FROM tasks WHERE kept GROUP BY ALL ORDER BY ALL") == [("r1", 80), ("r2", 80)]
    assert rows(turned, "SELECT count(*) FROM generations WHERE reward IS NULL") == [(0,)]
    assert rows(turned, "SELECT DISTINCT num FROM (SELECT count(*) AS num FROM candidates GROUP BY round, task_id)") == [(4,)]


def test_the_winner_is_the_finished_candidate_with_the_highest_reward(turned: Path) -> None:
    better = """
        SELECT count(*) FROM dataset AS d JOIN generations AS g USING (round, task_id)
        WHERE g.finish_reason = 'stop' AND g.reward > d.reward
    """
    assert rows(turned, better) == [(0,)]
    assert rows(turned, "SELECT count(*) FROM dataset AS d JOIN candidates AS c USING (round, task_id, candidate) "
                        "WHERE c.finish_reason = 'length'") == [(0,)]  # fmt: skip


def test_dropped_attempts_have_a_reason_and_kept_ones_none(turned: Path) -> None:
    assert rows(turned, "SELECT count(*) FROM tasks WHERE kept = (reason IS NOT NULL)") == [(0,)]


def test_no_task_is_kept_twice_nor_taken_from_the_held_out_ones(turned: Path) -> None:
    assert rows(turned, "SELECT instruction, input FROM tasks WHERE kept GROUP BY ALL HAVING count(*) > 1") == []
    held = "SELECT count(*) FROM tasks AS t JOIN heldout_tasks AS h USING (instruction, input) WHERE t.kept"
    assert rows(turned, held) == [(0,)]


def test_every_stage_is_marked_done_with_its_rows_and_members_judge_the_winners(turned: Path) -> None:
    found = reading.stages(turned / "flywheel.duckdb", "r1").as_dicts()
    assert [row["stage"] for row in found] == [str(stage) for stage in Stage if stage != Stage.PARAPHRASE]
    assert all(row["finished"] and row["rows"] > 0 for row in found)
    opinions = """
        SELECT m.name, count(*) FROM scores JOIN models AS m USING (model_id)
        WHERE m.kind = 'member' AND round = 'r1' GROUP BY ALL
    """
    assert sorted(rows(turned, opinions)) == [("form", 80), ("pairs", 80), ("thumbs", 80)]


def test_generators_are_chained_and_the_held_out_seeds_are_the_same_in_every_round(turned: Path) -> None:
    chain = rows(turned, "SELECT round, generator_in, generator_out FROM rounds ORDER BY number")
    assert chain[0][1] == chain[0][2]
    assert [row[1] for row in chain[1:]] == [row[2] for row in chain[:-1]]
    assert len({row[2] for row in chain}) == 3
    assert rows(turned, "SELECT count(DISTINCT seed), count(DISTINCT round) FROM evaluations") == [(2, 3)]


def test_two_workspaces_with_one_seed_hold_the_same_dataset(built: Path, turned: Path, tmp_path: Path) -> None:
    again = Workspace(copy(built, tmp_path))
    run_next_round(again, again.config(), Silent())
    first = "SELECT * FROM dataset WHERE round = 'r1' ORDER BY ALL"
    assert rows(again.folder, first) == rows(turned, first)
    other = "SELECT generator_out FROM rounds WHERE round = 'r1'"
    assert rows(again.folder, other) == rows(turned, other)


@pytest.mark.slow
def test_a_round_killed_in_every_stage_ends_with_the_same_rows(built: Path, turned: Path, tmp_path: Path) -> None:
    folder = copy(built, tmp_path)
    kills = [("propose", "after", 1), ("answer", "before", 2), ("score", "after", 1), ("select", "before", 1),
             ("train", "before", 1), ("evaluate", "after", 1)]  # fmt: skip
    for stage, moment, number in kills:
        died = subprocess.run(
            [sys.executable, "-m", "tests.crash", folder, stage, moment, str(number)], capture_output=True, text=True
        )
        assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]
        assert rows(folder, "SELECT status FROM rounds WHERE round = 'r1'") == [("running",)]
    workspace = Workspace(folder)
    assert run_next_round(workspace, workspace.config(), Silent()) == "r1"
    for table in ("tasks", "candidates", "scores", "selections", "evaluations", "evaluation_scores", "metrics"):
        sql = f"SELECT * FROM {table} WHERE round = 'r1' ORDER BY ALL"
        assert rows(folder, sql) == rows(turned, sql), table
    done = "SELECT stage, chunks, rows, tokens FROM stages WHERE round = 'r1' ORDER BY stage"
    assert rows(folder, done) == rows(turned, done)


@pytest.mark.slow
def test_a_round_that_ctrl_c_stops_keeps_its_chunks_and_goes_on(built: Path, turned: Path, tmp_path: Path) -> None:
    workspace = Workspace(copy(built, tmp_path))
    for stage in ("propose", "answer"):
        stopped = subprocess.run(
            [sys.executable, "-m", "tests.crash", workspace.folder, stage, "interrupt", "1"], capture_output=True, text=True
        )
        assert stopped.returncode == 130, stopped.stderr[-2000:]
        assert stopped.stderr.splitlines()[-1] == f"hint: {RESUME}"
        assert rows(workspace.folder, f"SELECT chunks FROM stages WHERE round = 'r1' AND stage = '{stage}'") == [(1,)]
    run_next_round(workspace, workspace.config(), Silent())
    for table in ("tasks", "candidates", "evaluations"):
        sql = f"SELECT * FROM {table} WHERE round = 'r1' ORDER BY ALL"
        assert rows(workspace.folder, sql) == rows(turned, sql), table


def test_a_changed_setting_is_refused_for_an_unfinished_round(built: Path, tmp_path: Path) -> None:
    workspace = Workspace(copy(built, tmp_path))
    subprocess.run([sys.executable, "-m", "tests.crash", workspace.folder, "propose", "after", "1"], check=False)
    with pytest.raises(ConfigError) as error:
        run_next_round(workspace, workspace.config(["sampling.n=2"]), Silent())
    assert "sampling.n = 4 (now 2)" in error.value.message
    assert "--set sampling.n=4 " in error.value.hint
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text("\n".join(f'{{"instruction": "Say {word}.", "input": "x"}}' for word in ("a", "b", "c")))
    with pytest.raises(ConfigError, match=r"instructions\.seeds"):
        run_next_round(workspace, workspace.config([f"instructions.seeds={seeds}"]), Silent())
    changed = workspace.config(["sampling.n=2", "instructions.tasks=10", "training.epochs=1"])
    assert run_next_round(workspace, changed, Silent(), restart=True) == "r1"
    assert rows(workspace.folder, "SELECT count(*) FROM candidates WHERE round = 'r1'") == [(20,)]


@pytest.mark.slow
def test_training_may_start_from_the_base_on_all_winners_so_far(turned: Path, tmp_path: Path) -> None:
    workspace = Workspace(copy(turned, tmp_path))
    run_next_round(workspace, workspace.config(["training.start=base", "training.data=accumulate"]), Silent())
    parents = dict(rows(workspace.folder, "SELECT name, parent FROM models WHERE kind = 'generator'"))
    base = rows(workspace.folder, "SELECT generator_in FROM rounds WHERE round = 'r0'")[0][0]
    assert parents["r1"] == parents["r3"] == base
    sizes = "SELECT name, (facts->>'rows')::INTEGER FROM models WHERE kind = 'generator' AND name > 'r0'"
    trained = dict(rows(workspace.folder, sizes))
    # 80 winners and a fifth of proposal-shaped texts; three rounds of winners and at most 80 proposals.
    assert trained == {"r1": 100, "r2": 100, "r3": 300}


def test_a_generator_changed_on_disk_is_refused(turned: Path, tmp_path: Path) -> None:
    workspace = Workspace(copy(turned, tmp_path))
    weights = workspace.models / "generator-r2" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4] + b"\1\2\3\4")
    with pytest.raises(ModelError, match="generator-r2"):
        run_next_round(workspace, workspace.config(), Silent())
    weights.write_bytes(whole[:1000])
    with pytest.raises(ModelError, match="generator-r2"):
        run_next_round(workspace, workspace.config(), Silent())


@pytest.mark.slow
def test_a_generator_that_lies_elsewhere_now_is_found_where_the_config_names_it(built: Path, tmp_path: Path) -> None:
    workspace = Workspace(copy(built, tmp_path))
    with duckdb.connect(str(workspace.store.path)) as db:
        db.execute("UPDATE models SET path = '/another/checkout/generator' WHERE name = 'r0'")
    assert run_next_round(workspace, workspace.config(["instructions.tasks=10", "training.epochs=1"]), Silent()) == "r1"
    ((path,),) = rows(workspace.folder, "SELECT path FROM models WHERE name = 'r0'")
    assert Path(path).is_dir()


def test_two_rounds_at_once_are_refused(turned: Path, tmp_path: Path) -> None:
    workspace = Workspace(copy(turned, tmp_path))
    with workspace.at_work(), pytest.raises(WorkspaceHeld):
        run_next_round(Workspace(workspace.folder), workspace.config(), Silent())


@pytest.mark.slow
def test_a_failed_round_is_marked_and_goes_on(built: Path, tmp_path: Path) -> None:
    workspace = Workspace(copy(built, tmp_path))
    with pytest.raises(DataError, match=r"300 attempts"):
        run_next_round(workspace, workspace.config(["instructions.tasks=300", "instructions.max_attempts=1"]), Silent())
    assert rows(workspace.folder, "SELECT status FROM rounds WHERE round = 'r1'") == [("failed",)]
    attempts = rows(workspace.folder, "SELECT count(*) FROM tasks")[0][0]
    run_next_round(workspace, workspace.config(["instructions.tasks=300"]), Silent())
    assert rows(workspace.folder, "SELECT status FROM rounds WHERE round = 'r1'") == [("done",)]
    assert rows(workspace.folder, "SELECT count(*) FROM tasks")[0][0] > attempts
