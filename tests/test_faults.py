"""What goes wrong with a machine, and what is left: one line is told, nothing is lost, the same command goes on."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ctranslate2
import duckdb
import pytest
import torch

from flywheel.core.faults import machine_fault
from flywheel.core.progress import Silent
from flywheel.records import Stage
from flywheel.reward.network import Network
from flywheel.round import stage as stages
from flywheel.round.context import RoundContext
from flywheel.round.loop import run_next_round
from flywheel.round.stages import answer as answering
from flywheel.store import reading
from flywheel.workspace import Workspace
from tests.conftest import Cli, copy, refused
from tests.disk import filled, mounted, read_only

pytestmark = pytest.mark.slow

TABLES = ("tasks", "candidates", "scores", "selections", "evaluations", "evaluation_scores", "metrics")


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    return reading.query(folder / "flywheel.duckdb", sql).rows


def same_round(folder: Path, undisturbed: Path) -> None:
    """r1 has the rows of a round that nothing happened to."""
    for table in TABLES:
        sql = f"SELECT * FROM {table} WHERE round = 'r1' ORDER BY ALL"
        assert rows(folder, sql) == rows(undisturbed, sql), table


@contextlib.contextmanager
def fault_at(stage: Stage, fault: Callable[[], contextlib.AbstractContextManager[None]]) -> Iterator[None]:
    """A fault for the length of one stage of a round."""
    real = stages.open_stages

    @contextlib.contextmanager
    def struck(context: RoundContext, *opened: Stage, **options: Any) -> Iterator[Any]:
        with fault() if stage in opened else contextlib.nullcontext(), real(context, *opened, **options) as opening:
            yield opening

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "open_stages", struck)
        patch.setattr(answering, "open_stages", struck)
        yield


def test_a_disk_that_is_full_stops_each_stage_in_one_line_and_nothing_is_lost(
    cli: Cli, built: Path, turned: Path, tmp_path: Path
) -> None:
    with mounted(tmp_path / "disk", megabytes=160) as disk:
        folder = copy(built, disk)
        stopped = []
        for stage in (one for one in Stage if one != Stage.PARAPHRASE):
            with fault_at(stage, partial(filled, disk, leave=0)):
                outcome = cli("--workspace", folder, "round")
            if outcome.code == 0:  # DuckDB had room inside its own file for the rest
                break
            refused(outcome, "disk")
            assert not list(folder.glob("models/*.tmp"))
            stopped.append(stage)
            if stage == Stage.PROPOSE:  # enough for DuckDB's log, but not for its checkpoint
                with fault_at(stage, partial(filled, disk, leave=96 << 10)):
                    cli("--workspace", folder, "propose")
        assert set(stopped) >= {Stage.PROPOSE, Stage.ANSWER, Stage.SCORE, Stage.TRAIN}
        if rows(folder, "SELECT status FROM rounds WHERE round = 'r1'") != [("done",)]:
            assert cli("--workspace", folder, "round").code == 0
        same_round(folder, turned)


def test_a_full_disk_stops_export_report_and_init_in_one_line(cli: Cli, turned: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", megabytes=8) as disk:
        with filled(disk, leave=0):
            refused(cli("--workspace", turned, "export", "r1", "--to", disk / "export"), "full")
            refused(cli("--workspace", turned, "report", "--out", disk / "report.html"), "full")
            refused(cli("--workspace", disk / "new", "init"), "full")
        assert not [path for path in disk.iterdir() if path.name.startswith(("export", "report"))]
        assert cli("--workspace", turned, "export", "r1", "--to", disk / "export").code == 0
        assert cli("--workspace", disk / "new", "init").code == 0


def test_a_read_only_workspace_can_be_read_and_a_round_says_so(cli: Cli, turned: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", megabytes=160) as disk:
        folder = copy(turned, disk)
        with read_only(disk):
            refused(cli("--workspace", folder, "round"), "Read-only file system")
            for command in (["rounds"], ["compare", "r1", "r2"], ["sql", "SELECT count(*) FROM candidates"]):
                assert cli("--workspace", folder, *command).code == 0


def test_a_config_that_is_gone_is_not_replaced_by_another(cli: Cli, turned: Path, tmp_path: Path) -> None:
    folder = copy(turned, tmp_path)
    config = (folder / "config.yaml").rename(folder / "elsewhere.yaml")
    for command in (["round"], ["round", "--dry-run"], ["propose"], ["init"], ["reward", "build"]):
        refused(cli("--workspace", folder, *command), "config.yaml", "flywheel.duckdb")
        assert not (folder / "config.yaml").exists()
    config.rename(folder / "config.yaml")
    assert cli("--workspace", folder, "round", "--dry-run").code == 0


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_database_that_is_cut_is_told_in_one_line(cli: Cli, turned: Path, tmp_path: Path, share: float) -> None:
    folder = copy(turned, tmp_path)
    path = folder / "flywheel.duckdb"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    for command in (["rounds"], ["sql", "SELECT * FROM candidates"], ["round"]):
        outcome = cli("--workspace", folder, *command)
        if outcome.code:
            refused(outcome, "flywheel.duckdb")
    path.write_bytes(whole)
    assert cli("--workspace", folder, "rounds").code == 0


def test_a_reward_model_that_is_cut_is_told_and_the_round_goes_on_with_a_whole_one(
    cli: Cli, built: Path, turned: Path, tmp_path: Path
) -> None:
    folder = copy(built, tmp_path)
    weights = next(path for path in folder.glob("models/reward-*/model.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    refused(cli("--workspace", folder, "round"), str(weights.parent))
    weights.write_bytes(whole)
    assert cli("--workspace", folder, "round").code == 0
    same_round(folder, turned)


@pytest.mark.parametrize("model", ["reward", "member-form"])
def test_a_model_that_has_changed_is_told_before_it_is_used(cli: Cli, built: Path, tmp_path: Path, model: str) -> None:
    folder = copy(built, tmp_path)
    (weights,) = folder.glob(f"models/{model}-*/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    refused(cli("--workspace", folder, "round"), str(weights.parent))
    assert rows(folder, "SELECT count(*) FROM tasks WHERE round = 'r1'") == [(0,)]
    content[-1] ^= 1
    weights.write_bytes(content)
    assert cli("--workspace", folder, "propose").code == 0


def test_a_generator_that_is_gone_is_told_with_where_to_get_it(cli: Cli, turned: Path, tmp_path: Path) -> None:
    folder = copy(turned, tmp_path)
    shutil.rmtree(folder / "models" / "generator-r2")
    for command in (["round"], ["sample", "Say hello."]):
        outcome = cli("--workspace", folder, *command)
        refused(outcome)
        assert "backup" in outcome.hint


def test_a_missing_database_is_not_created_again_beside_its_models(cli: Cli, turned: Path, tmp_path: Path) -> None:
    folder = copy(turned, tmp_path)
    (folder / "flywheel.duckdb").unlink()
    before = sorted(path.name for path in (folder / "models").iterdir())
    for command in (["round"], ["round", "--set", "seed=5"], ["propose"], ["init"], ["reward", "build"]):
        refused(cli("--workspace", folder, *command), "")
        if command != ["init"]:
            refused(cli("--workspace", folder, *command), "flywheel.duckdb", "models/")
    assert cli("--workspace", folder, "doctor").code == 1
    outcome = cli("--workspace", folder, "rounds")
    refused(outcome)
    assert "flywheel restore" in outcome.hint
    assert not (folder / "flywheel.duckdb").exists()
    assert sorted(path.name for path in (folder / "models").iterdir()) == before


def test_a_member_that_is_gone_is_built_anew(cli: Cli, built: Path, tmp_path: Path) -> None:
    folder = copy(built, tmp_path)
    (member,) = folder.glob("models/member-form-*")
    weights = (member / "model.safetensors").read_bytes()
    shutil.rmtree(member)
    assert cli("--workspace", folder, "reward", "build").code == 0
    assert (member / "model.safetensors").read_bytes() == weights
    assert rows(folder, "SELECT count(*) FROM models WHERE kind = 'reward'") == [(1,)]


@pytest.mark.parametrize(
    ("damage", "command", "missing"),
    [
        ("ALTER TABLE candidates DROP COLUMN output", ["round"], "output"),
        ("ALTER TABLE candidates DROP COLUMN output", ["show", "r1"], "output"),
        ("DROP TABLE scores", ["report"], "scores"),
    ],
)
def test_a_missing_table_or_column_is_named(
    cli: Cli, turned: Path, tmp_path: Path, damage: str, command: list[str], missing: str
) -> None:
    folder = copy(turned, tmp_path)
    with duckdb.connect(str(folder / "flywheel.duckdb")) as db:
        db.execute(damage)
    refused(cli("--workspace", folder, *command), missing)


def test_a_truncated_conversion_is_named(cli: Cli, built: Path, tmp_path: Path) -> None:
    folder = copy(built, tmp_path)
    (converted,) = folder.glob("models/converted/*/model.bin")
    converted.write_bytes(converted.read_bytes()[:5000])
    refused(cli("--workspace", folder, "propose"), str(converted.parent))
    shutil.rmtree(converted.parent)
    assert cli("--workspace", folder, "propose").code == 0


def test_a_clock_that_went_back_changes_nothing(built: Path, turned: Path, tmp_path: Path) -> None:
    folder = copy(built, tmp_path)
    with duckdb.connect(str(folder / "flywheel.duckdb")) as db:  # all that is there was made tomorrow
        db.execute("UPDATE rounds SET started_at = started_at + INTERVAL 1 DAY, finished_at = finished_at + INTERVAL 1 DAY")
        db.execute("UPDATE models SET created_at = created_at + INTERVAL 1 DAY")
        db.execute("UPDATE stages SET started_at = started_at + INTERVAL 1 DAY, finished_at = finished_at + INTERVAL 1 DAY")
    workspace = Workspace(folder)
    assert run_next_round(workspace, workspace.config(), Silent()) == "r1"
    same_round(folder, turned)
    assert rows(folder, "SELECT round FROM rounds_summary") == [("r0",), ("r1",)]


def test_short_memory_makes_smaller_work_of_the_same_texts(
    built: Path, turned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second engine that is loaded beside another one, and batches of more than two tasks, do not fit."""
    at_once: list[int] = []
    real, forward = ctranslate2.Generator.generate_batch, Network.score_shared

    def short(self: Any, *arguments: Any, **options: Any) -> Any:
        at_once.append(1)
        if len(at_once) == 3:
            raise RuntimeError("std::bad_alloc")
        return real(self, *arguments, **options)

    def short_batches(self: Network, prompts: Any, rests: Any) -> list[float]:
        if len(prompts) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
        return forward(self, prompts, rests)

    workspace = Workspace(copy(built, tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("flywheel.engines.ctranslate2_engine.ctranslate2.Generator.generate_batch", short)
        patch.setattr(Network, "score_shared", short_batches)
        threads = torch.get_num_threads()
        run_next_round(workspace, workspace.config(), Silent())
    assert torch.get_num_threads() == threads, "what comes after it has as many cores as before"
    texts = "SELECT * FROM candidates WHERE round = 'r1' ORDER BY ALL"
    assert rows(workspace.folder, texts) == rows(turned, texts)
    scores = "SELECT task_id, candidate, model_id, score FROM scores WHERE round = 'r1' ORDER BY ALL"
    for mine, theirs in zip(rows(workspace.folder, scores), rows(turned, scores), strict=True):
        assert mine[:3] == theirs[:3]
        assert mine[3] == pytest.approx(theirs[3], abs=1e-3)


LIMITED = """
import resource, sys
from pathlib import Path
import flywheel.round.loop, flywheel.engines.ctranslate2_engine, flywheel.training.sft, flywheel.reward.merge, pyarrow
from flywheel.cli import main
size = int(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize")))
resource.setrlimit(resource.RLIMIT_AS, ((size << 10) + (int(sys.argv[1]) << 20),) * 2)
sys.argv = ["flywheel", "--workspace", sys.argv[2], "round"]
main()
"""


def test_a_round_that_a_limit_on_memory_ended_goes_on_without_it(built: Path, turned: Path, tmp_path: Path) -> None:
    folder = copy(built, tmp_path)
    ran = subprocess.run([sys.executable, "-c", LIMITED, "40", str(folder)], capture_output=True, text=True)
    assert ran.returncode != 0
    assert "Traceback" not in ran.stderr
    if ran.returncode > 0:  # a library in C++ may end the process where it gets no memory, which is a kill like any other
        assert "memory" in ran.stderr.splitlines()[-1]
    workspace = Workspace(folder)
    run_next_round(workspace, workspace.config(), Silent())
    same_round(folder, turned)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "/x/y"), "/x/y"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "disk"),
        (OSError(30, "Read-only file system", "/x"), "Read-only"),
        (MemoryError(), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), "memory"),
    ],
)
def test_a_fault_of_the_machine_is_recognised_whichever_library_meets_it(error: Exception, words: str) -> None:
    fault = machine_fault(error)
    assert fault is not None
    assert words in fault.message
    assert fault.hint


def test_a_defect_is_no_fault_of_the_machine() -> None:
    assert machine_fault(ValueError("x")) is None
    assert machine_fault(FileNotFoundError(2, "No such file or directory", "/x")) is None
