"""What prune removes and what it keeps: listed first, never what is needed, and reported wherever it is missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from flywheel.core.progress import Silent
from flywheel.integrity.needed import ancestry, kept_rounds, needed, removable
from flywheel.integrity.prune import plan_prune
from flywheel.records import Facts, Model, ModelKind, Policy, Round
from flywheel.round.loop import run_next_round
from flywheel.store import checks
from flywheel.workspace import Workspace
from tests.conftest import Cli, copy
from tests.disk import filled, mounted


@pytest.fixture
def workspace(turned: Path, tmp_path: Path) -> Workspace:
    """r2 is the newest round and the best by the judge."""
    folder = copy(turned, tmp_path)
    with duckdb.connect(str(folder / "flywheel.duckdb")) as db:
        db.execute("UPDATE metrics SET value = 0.9 WHERE round = 'r2' AND name = 'heldout.judge'")
    return Workspace(folder)


def models_of(workspace: Workspace) -> set[str]:
    return {path.name for path in workspace.models.iterdir() if path.name != "converted"}


def pruned(cli: Cli, workspace: Workspace, *options: str) -> dict[str, Any]:
    outcome = cli("-w", workspace.folder, "prune", "--json", *options)
    assert outcome.code == 0, outcome.err
    plan: dict[str, Any] = json.loads(outcome.out)
    return plan


def test_it_lists_first_and_removes_with_yes(workspace: Workspace, cli: Cli) -> None:
    before = models_of(workspace)
    listed = pruned(cli, workspace)
    assert not listed["removed"]
    assert models_of(workspace) == before
    done = pruned(cli, workspace, "--yes")
    assert done["removals"] == listed["removals"]
    assert before - models_of(workspace) == {"generator-r1"}
    assert done["kept"] == {"r0": "original generator", "r2": "newest and best"}
    generators = [removal for removal in done["removals"] if removal["model_id"]]
    assert [(removal["path"], removal["reason"]) for removal in generators] == [("models/generator-r1", "trained in r1")]
    assert generators[0]["size"] > 3_000_000
    # Its conversion is removed too; the rows stay, and all checks pass.
    assert len(done["removals"]) == 2
    assert pruned(cli, workspace)["removals"] == []
    assert cli("-w", workspace.folder, "doctor", "--deep").code == 0
    row = "SELECT pruned_at IS NOT NULL FROM models WHERE name = '{}' AND kind = 'generator'"
    for name, gone in (("r1", "true"), ("r2", "false")):
        assert cli("-w", workspace.folder, "sql", row.format(name), "--format", "csv").out.split()[-1].lower() == gone
    assert cli("-w", workspace.folder, "compare", "r0", "r1").code == 0


def test_rounds_continue_after_a_prune(workspace: Workspace, cli: Cli) -> None:
    pruned(cli, workspace, "--yes")
    assert run_next_round(workspace, workspace.config(["instructions.tasks=20", "training.epochs=1"]), Silent()) == "r3"
    assert checks.problems(workspace.store.path) == []


def test_the_best_round_and_those_asked_for_stay(workspace: Workspace, cli: Cli) -> None:
    with duckdb.connect(str(workspace.store.path)) as db:
        db.execute("UPDATE metrics SET value = 0.99 WHERE round = 'r1' AND name = 'heldout.judge'")
    assert pruned(cli, workspace)["kept"] == {"r0": "original generator", "r1": "best", "r2": "newest"}
    assert pruned(cli, workspace)["removals"] == []
    with duckdb.connect(str(workspace.store.path)) as db:
        db.execute("UPDATE metrics SET value = 0.01 WHERE round = 'r1' AND name = 'heldout.judge'")
    assert pruned(cli, workspace, "--keep", "r1")["removals"] == []
    refused = cli("-w", workspace.folder, "prune", "--keep", "r9", "--yes")
    assert (refused.code, "'r9'" in refused.error, "r0, r1, r2" in refused.hint) == (1, True, True)
    pruned(cli, workspace, "--yes")
    refused = cli("-w", workspace.folder, "prune", "--keep", "r1")
    assert (refused.code, "'r1'" in refused.error, "r0, r2" in refused.hint) == (1, True, True)


def test_a_command_that_needs_a_pruned_model_reports_it(workspace: Workspace, cli: Cli) -> None:
    pruned(cli, workspace, "--yes")
    with duckdb.connect(str(workspace.store.path)) as db:
        # As if r2 had never been: the newest round's generator is a pruned one.
        db.execute("DELETE FROM rounds WHERE round = 'r2'")
    warned = cli("-w", workspace.folder, "round", "--dry-run", "--json")
    assert [warning for warning in json.loads(warned.out)["warnings"] if "flywheel prune" in warning]
    for command in (("round",), ("sample", "Sort."), ("propose", "--tasks", "2")):
        outcome = cli("-w", workspace.folder, *command)
        assert outcome.code == 1, outcome
        assert "generator-r1-" in outcome.error
        assert "flywheel prune" in outcome.error


def test_leftovers_are_removed_and_other_files_stay(workspace: Workspace, cli: Cli) -> None:
    for name in ("models/generator-r9.tmp", "models/member-x.tmp", "models/reward-stray"):
        (workspace.folder / name).mkdir()
        (workspace.folder / name / "weights").write_bytes(b"x" * 1000)
    (workspace.folder / "config.yaml.tmp").write_text("half")
    (workspace.folder / "notes.txt").write_text("mine")
    reasons = {removal["path"]: removal["reason"] for removal in pruned(cli, workspace, "--yes")["removals"]}
    for name in ("models/generator-r9.tmp", "models/member-x.tmp", "config.yaml.tmp"):
        assert reasons[name] == "left incomplete by an interrupted process"
    assert reasons["models/reward-stray"] == "not recorded in the database"
    assert sorted(path.name for path in workspace.folder.iterdir()) == [
        "at-work.lock", "config.yaml", "flywheel.duckdb", "models", "notes.txt",
    ]  # fmt: skip


def test_nothing_is_pruned_while_a_process_uses_the_workspace_or_if_there_is_none(workspace: Workspace, cli: Cli) -> None:
    with workspace.at_work():
        assert f"process {os.getpid()}" in cli("-w", workspace.folder, "prune", "--yes").err
    assert str(workspace.folder / "none") in cli("-w", workspace.folder / "none", "prune").error
    workspace.store.path.unlink()
    assert str(workspace.store.path) in cli("-w", workspace.folder, "prune").error
    assert not (workspace.folder / "none").exists()


def test_a_workspace_on_a_full_disk_can_be_checked_and_pruned(workspace: Workspace, tmp_path: Path, cli: Cli) -> None:
    with mounted(tmp_path / "disk", megabytes=96) as disk:
        full = Workspace(Path(shutil.copytree(workspace.folder, disk / "wheel")))
        with filled(disk, leave=0):
            findings = json.loads(cli("-w", full.folder, "doctor", "--deep", "--json").out)
            passed = {finding["check"] for finding in findings if finding["ok"]}
            assert passed >= {"stages", "models", "leftovers"}
            assert pruned(cli, full, "--yes")["removed"]
        assert "generator-r1" not in models_of(full)
        assert checks.problems(full.store.path) == []


def test_a_killed_prune_leaves_a_folder_that_the_next_one_removes(workspace: Workspace, cli: Cli) -> None:
    die = (
        "import os, shutil, signal, sys\nfrom pathlib import Path\nfrom flywheel.integrity import prune\n"
        "from flywheel.workspace import Workspace\nworkspace = Workspace(Path(sys.argv[1]))\n"
        "shutil.rmtree = lambda path: path.name == 'generator-r1' and os.kill(os.getpid(), signal.SIGKILL)\n"
        "prune.prune(workspace, prune.plan_prune(workspace))"
    )
    subprocess.run([sys.executable, "-c", die, workspace.folder], check=False)
    assert "generator-r1" in models_of(workspace)
    # The folder is complete and can still be used.
    (model,) = [model for model in workspace.store.models() if model.pruned_at is not None]
    assert workspace.locate(model).is_dir()
    assert cli("-w", workspace.folder, "doctor", "--deep").code == 0
    pruned(cli, workspace, "--yes")
    assert "generator-r1" not in models_of(workspace)


def test_an_unneeded_model_that_was_removed_by_hand_is_recorded_as_pruned(workspace: Workspace, cli: Cli) -> None:
    shutil.rmtree(workspace.models / "generator-r1")
    assert cli("-w", workspace.folder, "doctor", "--deep").code == 1
    pruned(cli, workspace, "--yes")
    assert cli("-w", workspace.folder, "doctor", "--deep").code == 0


def test_an_unfinished_round_keeps_the_models_that_it_needs(workspace: Workspace) -> None:
    store = workspace.store
    store.open_round(
        replace(
            store.rounds()[-1], round="r2-random", number=2, parent="r1", policy=Policy.RANDOM, status="running",
            generator_out=None,
        )
    )  # fmt: skip
    assert [removal for removal in plan_prune(workspace).removals if removal.model_id] == []


def test_a_pruned_reward_model_is_built_again_when_it_is_needed(workspace: Workspace, cli: Cli) -> None:
    (model,) = workspace.store.models(ModelKind.REWARD)
    workspace.store.mark_pruned([model.model_id])
    shutil.rmtree(workspace.folder / model.path)
    scored = cli("-w", workspace.folder, "reward", "score", model.model_id, "a text")
    assert (scored.code, "flywheel prune" in scored.error) == (1, True)
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
        model_id.partition("-")[2].rpartition("-")[0]
        for model_id in removable(MODELS, rounds, needed(MODELS, rounds, kept, configured=configured))
    }


def test_a_reward_model_is_removed_with_the_last_round_that_used_it_and_shared_members_stay() -> None:
    rounds = [turned_round(0, OLD), turned_round(1, OLD), turned_round(2, NEW), turned_round(3, NEW)]
    assert gone(rounds, {"r3"}) == {"r0", "r1", "r2", "first", "old"}
    assert gone(rounds, {"r0", "r3"}) == {"r1", "r2"}
    assert gone(rounds, {"r3"}, configured=OLD.model_id) == {"r0", "r1", "r2"}
    assert ancestry(MODELS, {NEW.model_id}) == {model.model_id for model in (NEW, SHARED, JOINT, BASE)}


def test_an_unfinished_round_keeps_its_generator_and_the_first_one() -> None:
    rounds = [turned_round(0, NEW), turned_round(1, NEW), turned_round(2, NEW, status="running")]
    kept = kept_rounds(rounds, best="r0", requested=[])
    assert kept == {"r2": "unfinished", "r0": "best", "r1": "newest"}
    assert gone(rounds, {"r2"}) == {"r2", "r3"}
