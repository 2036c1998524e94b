"""`flywheel doctor --deep`: a sound workspace is found sound, and every planted fault is found, with its remedy."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from flywheel.config import find, load
from flywheel.integrity.deep import examine_deeply
from flywheel.integrity.folders import folder_faults
from flywheel.records import Stage
from flywheel.store import checking
from flywheel.workspace import Workspace
from tests.conftest import Cli, copy
from tests.integrity.faults import PLANTED


def deep(cli: Cli, folder: Path) -> tuple[int, list[dict[str, Any]]]:
    outcome = cli("-w", folder, "doctor", "--deep", "--json")
    return outcome.code, json.loads(outcome.out)


def on_disk(folder: Path) -> list[tuple[str, str]]:
    return [(one.check, one.found) for one in folder_faults(Workspace(folder))]


@pytest.fixture(scope="module")
def sound(turned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of three rounds, alone."""
    return Path(shutil.copy(turned / "flywheel.duckdb", tmp_path_factory.mktemp("sound") / "flywheel.duckdb"))


@pytest.fixture
def workspace(turned: Path, tmp_path: Path) -> Path:
    return copy(turned, tmp_path)


def test_a_sound_workspace_is_found_sound(workspace: Path, cli: Cli) -> None:
    code, findings = deep(cli, workspace)
    assert (code, [one for one in findings if not one["ok"]]) == (0, [])
    names = [one["what"] for one in findings]
    assert names[-13:] == [
        "database", *dict.fromkeys(check.name for check in checking.CHECKS), "models", "inputs", "leftovers"
    ]  # fmt: skip


def test_there_is_a_planted_fault_for_every_check() -> None:
    assert {check for check, _, _ in PLANTED.values()} == {check.name for check in checking.CHECKS}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str, sound: Path, tmp_path: Path) -> None:
    check, sql, told = PLANTED[name]
    path = Path(shutil.copy(sound, tmp_path))
    with duckdb.connect(str(path)) as db:
        db.execute(sql)
    found = [one for one in checking.faults(path) if one.check == check and told in one.found]
    assert len(found) >= 1, list(checking.faults(path))
    assert all(one.remedy and "\n" not in one.found + one.remedy for one in found)


def test_a_fault_is_a_line_with_its_remedy_and_exit_code_1(workspace: Path, cli: Cli) -> None:
    with duckdb.connect(str(workspace / "flywheel.duckdb")) as db:
        db.execute("UPDATE metrics SET round = 'r9' WHERE round = 'r2'")
    outcome = cli("-w", workspace, "doctor", "--deep")
    assert outcome.code == 1
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("!!")]
    assert "rows of metrics are of r9, which is not there" in line
    assert "DELETE FROM metrics" in line
    assert cli("-w", workspace, "doctor").code == 0


def test_a_broken_block_is_found(sound: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(sound, tmp_path))
    content = bytearray(path.read_bytes())
    # The text of an output, as it lies in a block.
    with duckdb.connect(str(sound), read_only=True) as db:
        rows = db.execute("SELECT raw FROM tasks WHERE length(raw) > 60").fetchall()
    place = next(place for (raw,) in rows if (place := content.find(raw.encode()[20:40])) > 0)
    content[place] ^= 0xFF
    path.write_bytes(content)
    (fault,) = checking.faults(path)
    assert (fault.check, fault.found.startswith("cannot be read")) == ("database", True)
    assert "restore" in fault.remedy


def test_models_that_are_gone_or_changed_are_found(workspace: Path) -> None:
    shutil.rmtree(workspace / "models" / "generator-r1")
    weights = workspace / "models" / "generator-r2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\1\2\3\4")
    found = on_disk(workspace)
    assert [(check, said.partition(":")[2]) for check, said in found] == [
        ("models", " no folder models/generator-r1"),
        ("models", " models/generator-r2 is not what was recorded"),
    ]


def test_leftovers_of_killed_writers_are_found_and_a_training_that_goes_on_is_none(workspace: Path) -> None:
    models, store = workspace / "models", Workspace(workspace).store
    fingerprint = store.rounds()[-1].fingerprint[:12]
    for name in (
        "generator-r3.tmp", "generator-r1-000000000000.training", f"generator-r2-{fingerprint}.training", "generator-r7",
        "converted/000000000000-float32", "member-new-000000000000.training",
    ):  # fmt: skip
        (models / name).mkdir(parents=True)
    assert sorted(on_disk(workspace)) == [
        ("leftovers", "models/converted/000000000000-float32: a conversion of no model that is here"),
        ("leftovers", "models/generator-r1-000000000000.training: a training that nothing goes on with"),
        ("leftovers", f"models/generator-r2-{fingerprint}.training: a training that nothing goes on with"),
        ("leftovers", "models/generator-r3.tmp: not written to its end"),
        ("leftovers", "models/generator-r7: a folder that no model has"),
    ]
    with Workspace(workspace).at_work():  # they may be somebody's
        assert on_disk(workspace) == []
        findings = list(examine_deeply(Workspace(workspace)))
        assert (findings[-1]["what"], findings[-1]["found"]) == ("leftovers", "not looked for while a process is at work")
    with duckdb.connect(str(store.path)) as db:
        db.execute("UPDATE rounds SET generator_out = NULL, status = 'running' WHERE round = 'r2'")
    assert not [said for _, said in on_disk(workspace) if fingerprint in said]


def test_an_unfinished_round_whose_files_are_gone_is_found(workspace: Path, tmp_path: Path) -> None:
    store = Workspace(workspace).store
    config = load(find("nano"), [f"evaluation.tasks={tmp_path / 'gone.jsonl'}"]).model_dump(mode="json")
    store.open_round(replace(store.rounds()[-1], round="r3", number=3, parent="r2", status="running", config=config))
    store.progress("r3", Stage.PROPOSE)
    assert on_disk(workspace) == [("inputs", f"r3 reads evaluation.tasks = {tmp_path / 'gone.jsonl'}, which is gone")]


def test_a_generator_that_was_moved_is_sound_where_the_config_names_it(workspace: Path) -> None:
    with duckdb.connect(str(workspace / "flywheel.duckdb")) as db:
        db.execute("UPDATE models SET path = '/nowhere/generator' WHERE name = 'r0'")
    assert on_disk(workspace) == []
    config = (workspace / "config.yaml").read_text()
    (workspace / "config.yaml").write_text(config.replace("generator: asset:data/nano/generator", "generator: /nowhere/else"))
    ((check, said),) = on_disk(workspace)
    assert (check, said.partition(":")[2]) == ("models", " no folder /nowhere/generator")
