"""`flywheel doctor --deep`: a sound workspace passes all checks, and every planted problem is reported with a hint."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from flywheel.config import find
from flywheel.integrity.doctor import examine
from flywheel.integrity.folders import folder_problems
from flywheel.records import ModelKind
from flywheel.store import checks
from flywheel.store.checks import Finding
from flywheel.workspace import Workspace
from tests.conftest import Cli, copy
from tests.integrity.problems import PLANTED
from tests.store.recorded import break_text

pytestmark = pytest.mark.slow


def deep(cli: Cli, folder: Path) -> tuple[int, list[dict[str, Any]]]:
    outcome = cli("-w", folder, "doctor", "--deep", "--json")
    return outcome.code, json.loads(outcome.out)


def on_disk(folder: Path) -> list[tuple[str, str]]:
    return [(problem.check, problem.message) for problem in folder_problems(Workspace(folder))]


@pytest.fixture(scope="module")
def sound(turned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of three rounds, alone."""
    return Path(shutil.copy(turned / "flywheel.duckdb", tmp_path_factory.mktemp("sound") / "flywheel.duckdb"))


@pytest.fixture
def workspace(turned: Path, tmp_path: Path) -> Path:
    return copy(turned, tmp_path)


def test_a_sound_workspace_passes_all_checks(workspace: Path, cli: Cli) -> None:
    code, findings = deep(cli, workspace)
    assert (code, [finding for finding in findings if not finding["ok"]]) == (0, [])
    names = [finding["check"] for finding in findings]
    assert names[-(4 + len(checks.CHECKS)) :] == ["database", "schema", *checks.CHECKS, "models", "leftovers"]


def test_there_is_a_planted_problem_for_every_check() -> None:
    assert {check for check, _, _ in PLANTED.values()} == set(checks.CHECKS)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_problem_is_reported(name: str, sound: Path, tmp_path: Path) -> None:
    check, sql, message = PLANTED[name]
    path = Path(shutil.copy(sound, tmp_path))
    with duckdb.connect(str(path)) as db:
        db.execute(sql)
    found = [problem for problem in checks.problems(path) if problem.check == check and message in problem.message]
    assert len(found) >= 1, checks.problems(path)
    assert all(problem.hint and "\n" not in problem.message + problem.hint for problem in found)


def test_a_problem_is_a_line_with_a_hint_and_exit_code_1(workspace: Path, cli: Cli) -> None:
    with duckdb.connect(str(workspace / "flywheel.duckdb")) as db:
        db.execute("INSERT INTO metrics SELECT * REPLACE ('r9' AS round) FROM metrics WHERE round = 'r2'")
    outcome = cli("-w", workspace, "doctor", "--deep")
    assert outcome.code == 1
    lines = outcome.out.splitlines()
    (place,) = [place for place, line in enumerate(lines) if line.startswith("!!")]
    assert "r9" in lines[place]
    assert "restore" in lines[place + 1]
    assert cli("-w", workspace, "doctor").code == 0


def test_a_broken_block_is_reported(sound: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(sound, tmp_path))
    break_text(path)
    (problem,) = checks.problems(path)
    assert problem.check == "database"
    assert "restore" in problem.hint


@pytest.mark.parametrize("damage", ["a block", "cut", "no file of DuckDB's"])
@pytest.mark.parametrize("with_config", [True, False])
def test_a_damaged_database_is_a_problem_with_a_hint(
    damage: str, with_config: bool, sound: Path, tmp_path: Path, cli: Cli
) -> None:
    content = bytearray(sound.read_bytes())
    if damage == "a block":
        for place in range(len(content) // 2, len(content) // 2 + 400_000, 4096):
            content[place] ^= 0xFF
    (tmp_path / "flywheel.duckdb").write_bytes({"a block": content, "cut": content[: len(content) // 2]}.get(damage, b"x" * 99))
    if with_config:
        Workspace(tmp_path).config_file.write_text((find("nano")).read_text())
    # A broken block may be in a table that only the deep checks read.
    for options in [["--deep"]] if damage == "a block" else [[], ["--deep"]]:
        outcome = cli("-w", tmp_path, "doctor", "--json", *options)
        assert outcome.code == 1
        failed = [finding for finding in json.loads(outcome.out) if not finding["ok"]]
        assert failed[-1]["check"] == "database"
        assert all("restore" in finding["hint"] for finding in failed if finding["check"] == "database")


def test_missing_parts_of_the_schema_are_reported_alone(workspace: Path, cli: Cli) -> None:
    with duckdb.connect(str(workspace / "flywheel.duckdb")) as db:
        db.execute("DROP TABLE metrics; DROP VIEW policies; ALTER TABLE models DROP COLUMN facts")
        db.execute("ALTER TABLE stages ALTER rows TYPE VARCHAR; CREATE TABLE mine (x INTEGER)")
    code, findings = deep(cli, workspace)
    assert code == 1
    assert [(finding["message"], "restore" in finding["hint"]) for finding in findings if finding["check"] == "schema"] == [
        ("metrics is missing", True),
        ("models.facts JSON is missing", True),
        ("policies is missing", True),
        ("stages.rows BIGINT is missing", True),
    ]
    # The other checks need the whole schema: none of them passes.
    assert not {finding["check"] for finding in findings} & {*checks.CHECKS, "models", "leftovers"}


def test_a_missing_config_is_reported(workspace: Path, cli: Cli) -> None:
    (workspace / "config.yaml").unlink()
    for options in ([], ["--deep"]):
        outcome = cli("-w", workspace, "doctor", "--json", *options)
        config, *others = [finding for finding in json.loads(outcome.out) if not finding["ok"]]
        assert (outcome.code, config["check"]) == (1, "config")
        assert [finding["check"] for finding in others] == (["leftovers"] if options else [])
        assert "config.yaml" in config["message"]
    assert config["message"] in cli("-w", workspace, "round").err


def test_an_unwritable_workspace_is_reported(workspace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda _, mode: mode != os.W_OK)  # root may write anywhere
    outcome = cli("-w", workspace, "doctor", "--json")
    (problem,) = [finding for finding in json.loads(outcome.out) if not finding["ok"]]
    assert (outcome.code, problem["check"], f"chmod u+w {workspace}" in problem["hint"]) == (1, "permissions", True)


def test_folders_of_unrecorded_models_that_a_round_names_are_not_to_be_pruned(workspace: Path) -> None:
    with duckdb.connect(str(workspace / "flywheel.duckdb")) as db:
        db.execute("DELETE FROM models WHERE kind = 'generator'")
    left = [finding for finding in examine(Workspace(workspace), deep=True) if finding.check == "leftovers"]
    assert any(finding.message.startswith("models/generator-r1") for finding in left)
    assert all("restore" in finding.hint and "flywheel prune" not in finding.hint for finding in left)


def test_missing_and_changed_models_are_reported(workspace: Path) -> None:
    shutil.rmtree(workspace / "models" / "generator-r1")
    weights = workspace / "models" / "generator-r2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\1\2\3\4")
    assert [(check, message.partition(":")[2]) for check, message in on_disk(workspace)] == [
        ("models", " the folder models/generator-r1 is missing"),
        ("models", " models/generator-r2 has changed since it was recorded"),
    ]


def test_the_parts_of_a_reward_model_are_built_again_as_the_hint_says(workspace: Path, cli: Cli) -> None:
    store = Workspace(workspace).store
    ((reward,), base) = store.models(ModelKind.REWARD), store.models(ModelKind.BASE)[0]
    member = store.models(ModelKind.MEMBER)[0]
    weights = workspace / base.path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\1\2\3\4")
    shutil.rmtree(workspace / member.path)
    problems = [problem for problem in folder_problems(Workspace(workspace)) if problem.check == "models"]
    hints = {problem.message.partition(":")[0]: problem.hint for problem in problems}
    for model in (base, member):
        assert "models/reward-*" in hints[model.model_id]
        assert "flywheel reward build" in hints[model.model_id]
    for path in (base.path, reward.path):
        shutil.rmtree(workspace / path)
    assert cli("-w", workspace, "reward", "build").code == 0
    assert on_disk(workspace) == []


def test_leftovers_of_killed_processes_are_reported_unless_they_are_resumed(workspace: Path) -> None:
    models, store = workspace / "models", Workspace(workspace).store
    fingerprint = store.rounds()[-1].fingerprint[:12]
    for name in (
        "generator-r3.tmp", "generator-r1-000000000000.training", f"generator-r2-{fingerprint}.training", "generator-r7",
        "converted/000000000000-float32", "member-new-000000000000.training",
    ):  # fmt: skip
        (models / name).mkdir(parents=True)
    assert sorted(on_disk(workspace)) == [
        ("leftovers", "models/converted/000000000000-float32: converted from a model that is not kept"),
        ("leftovers", "models/generator-r1-000000000000.training: checkpoints that no training resumes from"),
        ("leftovers", f"models/generator-r2-{fingerprint}.training: checkpoints that no training resumes from"),
        ("leftovers", "models/generator-r3.tmp: left incomplete by an interrupted process"),
        ("leftovers", "models/generator-r7: not recorded in the database"),
    ]
    with Workspace(workspace).at_work():  # they may belong to that process
        assert on_disk(workspace) == []
        (left,) = [finding for finding in examine(Workspace(workspace), deep=True) if finding.check == "leftovers"]
        assert left == Finding(check="leftovers", message="skipped while a process is using the workspace", ok=True)
    with duckdb.connect(str(store.path)) as db:
        db.execute("UPDATE rounds SET generator_out = NULL, status = 'running' WHERE round = 'r2'")
    assert not [message for _, message in on_disk(workspace) if fingerprint in message]


def test_a_generator_that_was_moved_is_no_problem_if_the_config_names_its_new_folder(workspace: Path) -> None:
    with duckdb.connect(str(workspace / "flywheel.duckdb")) as db:
        db.execute("UPDATE models SET path = '/nowhere/generator' WHERE name = 'r0'")
    assert on_disk(workspace) == []
    config = (workspace / "config.yaml").read_text()
    (workspace / "config.yaml").write_text(config.replace("generator: asset:data/nano/generator", "generator: /nowhere/else"))
    ((check, message),) = on_disk(workspace)
    assert (check, message.partition(":")[2]) == ("models", " the folder /nowhere/generator is missing")
