"""`flywheel doctor --deep`: a sound workspace is found sound, and every planted fault is found, with its remedy."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from ctranslate2.converters import TransformersConverter

from flywheel.config import find, load
from flywheel.core.assets import asset
from flywheel.integrity.conversions import conversion_faults
from flywheel.integrity.deep import examine_deeply
from flywheel.integrity.folders import folder_faults
from flywheel.records import ModelKind, Stage
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
    assert names[-16:] == [
        "database", "schema", *dict.fromkeys(check.name for check in checking.CHECKS),
        "models", "inputs", "leftovers", "conversions",
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
        db.execute("INSERT INTO metrics SELECT * REPLACE ('r9' AS round) FROM metrics WHERE round = 'r2'")
    outcome = cli("-w", workspace, "doctor", "--deep")
    assert outcome.code == 1
    lines = outcome.out.splitlines()
    (place,) = [place for place, line in enumerate(lines) if line.startswith("!!")]
    assert "rows of metrics are of r9, which is not there" in lines[place]
    assert "DELETE FROM metrics" in lines[place + 1]
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


@pytest.mark.parametrize("damage", ["a block", "cut", "no file of DuckDB's"])
@pytest.mark.parametrize("with_config", [True, False])
def test_of_a_damaged_database_there_is_a_line_with_its_remedy(
    damage: str, with_config: bool, sound: Path, tmp_path: Path, cli: Cli
) -> None:
    content = bytearray(sound.read_bytes())
    if damage == "a block":
        for place in range(len(content) // 2, len(content) // 2 + 400_000, 4096):
            content[place] ^= 0xFF
    (tmp_path / "flywheel.duckdb").write_bytes({"a block": content, "cut": content[: len(content) // 2]}.get(damage, b"x" * 99))
    if with_config:
        Workspace(tmp_path).config_file.write_text((find("nano")).read_text())
    # A broken block may be of a table that only the deep examination reads.
    for deeply in [["--deep"]] if damage == "a block" else [[], ["--deep"]]:
        outcome = cli("-w", tmp_path, "doctor", "--json", *deeply)
        assert outcome.code == 1
        amiss = [one for one in json.loads(outcome.out) if not one["ok"]]
        assert amiss[-1]["what"] == "database"
        assert all("restore" in one["remedy"] for one in amiss if one["what"] == "database")


def test_what_is_not_there_of_the_schema_is_found_and_the_other_checks_are_made(workspace: Path, cli: Cli) -> None:
    with duckdb.connect(str(workspace / "flywheel.duckdb")) as db:
        db.execute("DROP TABLE metrics; DROP VIEW policies; ALTER TABLE models DROP COLUMN facts")
        db.execute("ALTER TABLE stages ALTER rows TYPE VARCHAR; CREATE TABLE mine (x INTEGER)")
        db.execute("UPDATE selections SET candidate = 9 WHERE round = 'r1' AND policy = 'first'")
    code, findings = deep(cli, workspace)
    assert code == 1
    assert [(one["found"], "restore" in one["remedy"]) for one in findings if one["what"] == "schema"] == [
        ("the table metrics is not there", True),
        ("the column facts of models is not there", True),
        ("the column rows of stages is VARCHAR, not BIGINT", True),
        ("the view policies is not there", True),
    ]
    told = {one["what"]: one["found"] for one in findings if not one["ok"]}
    assert "winners that are no candidate" in told["winners"]
    assert told["names"].startswith("not looked at")
    assert told["models"].startswith("not looked at")


def test_a_config_that_is_gone_is_found(workspace: Path, cli: Cli) -> None:
    (workspace / "config.yaml").unlink()
    for deeply in ([], ["--deep"]):
        outcome = cli("-w", workspace, "doctor", "--json", *deeply)
        lost, *others = [one for one in json.loads(outcome.out) if not one["ok"]]
        assert (outcome.code, lost["what"]) == (1, "config")
        assert [one["what"] for one in others] == (["leftovers"] if deeply else []), "what the config names cannot be known"
        assert "config.yaml is gone" in lost["found"]
        assert lost["remedy"].startswith("put the file back")
    assert f"{lost['found']}; {lost['remedy']}" in cli("-w", workspace, "round").err


def test_a_read_only_file_system_is_to_be_mounted_writable(workspace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda _, mode: mode != os.W_OK)  # root may write anywhere
    rights = [one for one in json.loads(cli("-w", workspace, "doctor", "--json").out) if one["what"] == "rights"]
    assert rights[0]["remedy"] == f"chmod u+w {workspace}"
    real = os.statvfs(workspace)
    there = SimpleNamespace(f_flag=real.f_flag | os.ST_RDONLY, f_bavail=real.f_bavail, f_blocks=real.f_blocks,
                            f_bfree=real.f_bfree, f_frsize=real.f_frsize)  # fmt: skip
    monkeypatch.setattr("os.statvfs", lambda _: there)
    rights = [one for one in json.loads(cli("-w", workspace, "doctor", "--json").out) if one["what"] == "rights"]
    assert rights[0]["remedy"].startswith("mount it writable")


def test_folders_of_models_that_rounds_name_and_nothing_records_are_not_to_be_pruned(workspace: Path) -> None:
    with duckdb.connect(str(workspace / "flywheel.duckdb")) as db:
        db.execute("DELETE FROM models WHERE kind = 'generator'")
    left = [one for one in examine_deeply(Workspace(workspace)) if one["what"] == "leftovers"]
    assert any(one["found"].startswith("models/generator-r1") for one in left)
    assert all("restore" in one["remedy"] and "prune" not in one["remedy"] for one in left)


@pytest.mark.parametrize("part", ["model.bin", "config.json", "vocabulary.json"])
@pytest.mark.parametrize("how", ["gone", "cut"])
def test_a_conversion_that_is_not_whole_is_found(part: str, how: str, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "converted" / "0123456789ab-float32"
    TransformersConverter(str(asset("data/nano/generator"))).convert(str(folder))
    assert list(conversion_faults(Workspace(tmp_path))) == []
    file = folder / part
    file.unlink() if how == "gone" else file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (fault,) = conversion_faults(Workspace(tmp_path))
    assert (fault.check, fault.found.startswith("models/converted/0123456789ab-float32: ")) == ("conversions", True)
    assert part in fault.found
    assert fault.remedy.startswith("remove the folder")


def test_models_that_are_gone_or_changed_are_found(workspace: Path) -> None:
    shutil.rmtree(workspace / "models" / "generator-r1")
    weights = workspace / "models" / "generator-r2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\1\2\3\4")
    found = on_disk(workspace)
    assert [(check, said.partition(":")[2]) for check, said in found] == [
        ("models", " no folder models/generator-r1"),
        ("models", " models/generator-r2 is not what was recorded"),
    ]


def test_what_a_reward_model_is_made_of_is_built_anew_as_the_remedy_says(workspace: Path, cli: Cli) -> None:
    store = Workspace(workspace).store
    ((reward,), base) = store.models(ModelKind.REWARD), store.models(ModelKind.BASE)[0]
    member = store.models(ModelKind.MEMBER)[0]
    flipped = workspace / base.path / "model.safetensors"
    flipped.write_bytes(flipped.read_bytes()[:-4] + b"\1\2\3\4")
    shutil.rmtree(workspace / member.path)
    remedies = {one.found.partition(":")[0]: one.remedy for one in folder_faults(Workspace(workspace)) if one.check == "models"}
    assert f"remove {base.path} and {reward.path}, then build it anew" in remedies[base.model_id]
    assert f"remove {reward.path}, then build it anew" in remedies[member.model_id]
    for path in (base.path, reward.path):
        shutil.rmtree(workspace / path)
    assert cli("-w", workspace, "reward", "build").code == 0
    assert on_disk(workspace) == []


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
        (left,) = [one["found"] for one in examine_deeply(Workspace(workspace)) if one["what"] == "leftovers"]
        assert left == "not looked for while a process is at work"
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
