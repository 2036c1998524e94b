"""What prune takes and what it leaves: told first, never what is needed, and said wherever it is missed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from flywheel.core.progress import Silent
from flywheel.integrity.needed import ancestry, freeable, kept_rounds, needed
from flywheel.integrity.prune import plan_prune
from flywheel.records import Facts, Model, ModelKind, Policy, Round
from flywheel.round.loop import run_next_round
from flywheel.store import checking
from flywheel.workspace import Workspace
from tests.conftest import Cli, copy
from tests.disk import filled, mounted


@pytest.fixture
def workspace(turned: Path, tmp_path: Path) -> Workspace:
    """r2 is the newest, and the judge likes it best."""
    folder = copy(turned, tmp_path)
    with duckdb.connect(str(folder / "flywheel.duckdb")) as db:
        db.execute("UPDATE metrics SET value = 0.9 WHERE round = 'r2' AND name = 'heldout.judge'")
    return Workspace(folder)


def there(workspace: Workspace) -> set[str]:
    return {path.name for path in workspace.models.iterdir() if path.name != "converted"}


def pruned(cli: Cli, workspace: Workspace, *options: str) -> dict[str, Any]:
    outcome = cli("-w", workspace.folder, "prune", "--json", *options)
    assert outcome.code == 0, outcome.err
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def test_it_is_told_first_and_done_when_asked(workspace: Workspace, cli: Cli) -> None:
    before = there(workspace)
    told = pruned(cli, workspace)
    assert not told["removed"]
    assert there(workspace) == before
    done = pruned(cli, workspace, "--yes")
    assert done["freed"] == told["freed"]
    assert before - there(workspace) == {"generator-r1"}
    assert done["kept"] == {"r0": "untouched", "r2": "the newest and the best"}
    generators = [one for one in done["freed"] if one["model_id"]]
    assert [(one["path"], one["why"]) for one in generators] == [("models/generator-r1", "trained in r1")]
    assert generators[0]["size"] > 3_000_000
    # What was converted from it goes, too; rows stay, and all is sound.
    assert len(done["freed"]) == 2
    assert pruned(cli, workspace)["freed"] == []
    assert cli("-w", workspace.folder, "doctor", "--deep").code == 0
    row = "SELECT pruned_at IS NOT NULL FROM models WHERE name = '{}' AND kind = 'generator'"
    for name, gone in (("r1", "true"), ("r2", "false")):
        assert cli("-w", workspace.folder, "sql", row.format(name), "--format", "csv").out.split()[-1].lower() == gone
    assert cli("-w", workspace.folder, "compare", "r0", "r1").code == 0


def test_the_wheel_turns_on_after_a_prune(workspace: Workspace, cli: Cli) -> None:
    pruned(cli, workspace, "--yes")
    assert run_next_round(workspace, workspace.config(["instructions.tasks=20", "training.epochs=1"]), Silent()) == "r3"
    assert list(checking.faults(workspace.store.path)) == []


def test_the_best_round_and_those_asked_for_stay(workspace: Workspace, cli: Cli) -> None:
    with duckdb.connect(str(workspace.store.path)) as db:
        db.execute("UPDATE metrics SET value = 0.99 WHERE round = 'r1' AND name = 'heldout.judge'")
    assert pruned(cli, workspace)["kept"] == {"r0": "untouched", "r1": "the best", "r2": "the newest"}
    assert pruned(cli, workspace)["freed"] == []
    with duckdb.connect(str(workspace.store.path)) as db:
        db.execute("UPDATE metrics SET value = 0.01 WHERE round = 'r1' AND name = 'heldout.judge'")
    assert pruned(cli, workspace, "--keep", "r1")["freed"] == []
    refused = cli("-w", workspace.folder, "prune", "--keep", "r9", "--yes")
    assert (refused.code, refused.err.strip()) == (1, "error: no round 'r9' to keep; there are r0, r1, r2")
    pruned(cli, workspace, "--yes")
    refused = cli("-w", workspace.folder, "prune", "--keep", "r1")
    assert (refused.code, "was removed by `flywheel prune` on" in refused.err) == (1, True)


def test_what_needs_a_pruned_model_says_so_in_one_line(workspace: Workspace, cli: Cli) -> None:
    pruned(cli, workspace, "--yes")
    with duckdb.connect(str(workspace.store.path)) as db:
        # As if r2 had never been: the newest round's generator is a pruned one.
        db.execute("DELETE FROM rounds WHERE round = 'r2'")
    warned = cli("-w", workspace.folder, "round", "--dry-run", "--json")
    assert [one for one in json.loads(warned.out)["warnings"] if "was removed by `flywheel prune` on" in one]
    for command in (("round",), ("sample", "Sort."), ("propose", "--tasks", "2")):
        outcome = cli("-w", workspace.folder, *command)
        said = [line for line in outcome.err.splitlines() if not line.startswith("engine ")]
        assert (outcome.code, len(said)) == (1, 1), outcome
        assert "was removed by `flywheel prune` on" in said[0]
        assert "a backup made before has it" in said[0]


def test_leftovers_and_copies_of_upgraded_databases_go_and_foreign_files_stay(workspace: Workspace, cli: Cli) -> None:
    for name in ("models/generator-r9.tmp", "models/member-x.tmp", "models/reward-stray"):
        (workspace.folder / name).mkdir()
        (workspace.folder / name / "weights").write_bytes(b"x" * 1000)
    (workspace.folder / "config.yaml.tmp").write_text("half")
    (workspace.folder / "notes.txt").write_text("mine")
    shutil.copy(workspace.store.path, workspace.folder / "flywheel.schema-4.duckdb")
    why = {one["path"]: one["why"] for one in pruned(cli, workspace, "--yes")["freed"]}
    assert why["models/generator-r9.tmp"] == why["models/member-x.tmp"] == why["config.yaml.tmp"] == "not written to its end"
    assert why["models/reward-stray"] == "a folder that no model has"
    assert why["flywheel.schema-4.duckdb"] == "the database before it was upgraded"
    assert sorted(path.name for path in workspace.folder.iterdir()) == [
        "at-work.lock", "config.yaml", "flywheel.duckdb", "models", "notes.txt",
    ]  # fmt: skip


def test_nothing_is_pruned_while_somebody_is_at_work_or_where_there_is_nothing(workspace: Workspace, cli: Cli) -> None:
    with workspace.at_work():
        assert "is at work in" in cli("-w", workspace.folder, "prune", "--yes").err
    assert "no workspace at" in cli("-w", workspace.folder / "none", "prune").err
    workspace.store.path.unlink()
    assert "no database at" in cli("-w", workspace.folder, "prune").err
    assert not (workspace.folder / "none").exists()


def test_a_disk_without_a_byte_left_can_be_pruned_and_examined(workspace: Workspace, tmp_path: Path, cli: Cli) -> None:
    with mounted(tmp_path / "disk", megabytes=96) as disk:
        full = Workspace(Path(shutil.copytree(workspace.folder, disk / "wheel")))
        with filled(disk, leave=0):
            examined = {one["what"]: one["ok"] for one in json.loads(cli("-w", full.folder, "doctor", "--deep", "--json").out)}
            assert (examined["counts"], examined["models"], examined["leftovers"]) == (True, True, True)
            assert pruned(cli, full, "--yes")["removed"]
        assert "generator-r1" not in there(full)
        assert checking.faults(full.store.path) == []


def test_a_killed_prune_leaves_a_folder_too_many_and_the_next_one_takes_it(workspace: Workspace, cli: Cli) -> None:
    die = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom flywheel.integrity import prune\n"
        "from flywheel.workspace import Workspace\nworkspace = Workspace(Path(sys.argv[1]))\n"
        "prune.shutil.rmtree = lambda path: path.name == 'generator-r1' and os.kill(os.getpid(), signal.SIGKILL)\n"
        "prune.prune(workspace, prune.plan_prune(workspace))"
    )
    subprocess.run([sys.executable, "-c", die, workspace.folder], check=False)
    assert "generator-r1" in there(workspace)
    # It is whole, and whoever needs it may still have it.
    (model,) = [one for one in workspace.store.all_models() if one.pruned_at is not None]
    assert workspace.locate(model).is_dir()
    assert cli("-w", workspace.folder, "doctor", "--deep").code == 0
    pruned(cli, workspace, "--yes")
    assert "generator-r1" not in there(workspace)


def test_a_model_that_was_removed_by_hand_and_is_not_needed_is_recorded_as_pruned(workspace: Workspace, cli: Cli) -> None:
    shutil.rmtree(workspace.models / "generator-r1")
    assert cli("-w", workspace.folder, "doctor", "--deep").code == 1
    pruned(cli, workspace, "--yes")
    assert cli("-w", workspace.folder, "doctor", "--deep").code == 0


def test_a_round_that_is_begun_keeps_what_it_needs(workspace: Workspace) -> None:
    store = workspace.store
    store.open_round(
        replace(
            store.rounds()[-1], round="r2-random", number=2, parent="r1", policy=Policy.RANDOM, status="running",
            generator_out=None,
        )
    )  # fmt: skip
    assert [one for one in plan_prune(workspace).freed if one.model_id] == []


def test_a_reward_model_that_went_is_built_anew_when_it_is_needed(workspace: Workspace, cli: Cli) -> None:
    (model,) = workspace.store.models(ModelKind.REWARD)
    workspace.store.mark_pruned([model.model_id])
    shutil.rmtree(workspace.folder / model.path)
    scored = cli("-w", workspace.folder, "reward", "score", model.model_id, "a text")
    assert (scored.code, "was removed by `flywheel prune` on" in scored.err) == (1, True)
    assert cli("-w", workspace.folder, "reward", "build").code == 0
    newest = workspace.store.models(ModelKind.REWARD)[-1]
    assert (newest.recipe, newest.pruned_at) == (model.recipe, None)
    assert workspace.locate(newest).is_dir()


# The rules, on records alone.


def generator(name: str) -> Model:
    return Model(kind=ModelKind.GENERATOR, name=name, path=f"models/generator-{name}", digest=name * 8)


def lab(kind: ModelKind, name: str, parent: str | None = None, members: tuple[str, ...] = ()) -> Model:
    return Model(
        kind=kind, name=name, path=f"models/{name}", digest=name * 12, parent=parent, facts=Facts(members=members)
    )  # fmt: skip


BASE = lab(ModelKind.BASE, "base")
JOINT = lab(ModelKind.BASE, "joint", BASE.model_id)
OLD_MEMBER, SHARED, UNUSED = (lab(ModelKind.MEMBER, name, JOINT.model_id) for name in ("old", "shared", "unused"))
OLD = lab(ModelKind.REWARD, "first", JOINT.model_id, (OLD_MEMBER.model_id, SHARED.model_id))
NEW = lab(ModelKind.REWARD, "second", JOINT.model_id, (SHARED.model_id,))
GENERATORS = [generator(name) for name in ("r0", "r1", "r2", "r3")]
MODELS = [BASE, JOINT, OLD_MEMBER, SHARED, UNUSED, OLD, NEW, *GENERATORS]


def turned_round(number: int, reward: Model, status: str = "done") -> Round:
    return Round(
        round=f"r{number}", number=number, parent=f"r{number - 1}" if number else None, status=status, seed=0, fingerprint="",
        identity={}, config={}, generator_in=GENERATORS[max(number - 1, 0)].model_id,
        generator_out=GENERATORS[number].model_id if status == "done" else None, reward_model=reward.model_id, judge="j",
        versions={},
    )  # fmt: skip


def gone(rounds: list[Round], kept: set[str], configured: str | None = None) -> set[str]:
    return {
        one.partition("-")[2].rpartition("-")[0]
        for one in freeable(MODELS, rounds, needed(MODELS, rounds, kept, configured=configured))
    }


def test_a_reward_model_goes_with_the_last_round_it_selected_in_and_shared_members_stay() -> None:
    rounds = [turned_round(0, OLD), turned_round(1, OLD), turned_round(2, NEW), turned_round(3, NEW)]
    assert gone(rounds, {"r3"}) == {"r0", "r1", "r2", "first", "old"}
    assert gone(rounds, {"r0", "r3"}) == {"r1", "r2"}
    assert gone(rounds, {"r3"}, configured=OLD.model_id) == {"r0", "r1", "r2"}
    assert ancestry(MODELS, {NEW.model_id}) == {one.model_id for one in (NEW, SHARED, JOINT, BASE)}


def test_an_unfinished_round_keeps_its_writer_and_the_first_generator() -> None:
    rounds = [turned_round(0, NEW), turned_round(1, NEW), turned_round(2, NEW, status="running")]
    kept = kept_rounds(rounds, best="r0", asked=[])
    assert kept == {"r2": "not done", "r0": "the best", "r1": "the newest"}
    assert gone(rounds, {"r2"}) == {"r2", "r3"}
