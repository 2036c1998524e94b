"""Files of the user in a workspace: prune keeps them, and no check calls them leftovers."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from flywheel import config as configuration
from flywheel.core.assets import asset
from flywheel.core.files import digest_model
from flywheel.integrity.folders import folder_problems
from flywheel.records import Model, ModelKind
from flywheel.workspace import Workspace
from tests.conftest import Cli

THEIRS = (
    "models/mybase",
    "models/generator-mine",
    "models/data/seeds.jsonl",
    "models/heldout.jsonl",
    "models/base-mine/thumbs.jsonl",
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace without rounds whose config names files in `models/`."""
    new = Workspace(tmp_path / "workspace")
    keys = ("reward.base", "generator", "instructions.seeds", "evaluation.tasks", "reward.members.thumbs.data")
    new.init(
        configuration.find("nano"), [f"{key}={new.folder / name}" for key, name in zip(keys, THEIRS, strict=True)]
    )  # fmt: skip
    for name in THEIRS[:2]:
        shutil.copytree(asset("data/nano/generator"), new.folder / name)
    for name in THEIRS[2:]:
        (new.folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(asset("data/nano") / Path(name).name, new.folder / name)
    return new


def trained(workspace: Workspace, name: str) -> Model:
    """A recorded generator of no round, which prune removes first."""
    folder = workspace.models / f"generator-{name}"
    shutil.copytree(asset("data/nano/generator"), folder)
    model = Model(kind=ModelKind.GENERATOR, name=name, path=workspace.inside(folder), digest=digest_model(folder))
    workspace.store.record_model(model)
    return model


def pruned_at(workspace: Workspace, model: Model) -> datetime | None:
    return workspace.store.model(model.model_id).pruned_at


def test_what_the_config_names_and_what_flywheel_did_not_create_stays(workspace: Workspace, cli: Cli) -> None:
    (workspace.models / "photos").mkdir()
    (workspace.models / "mine.tmp").write_text("mine")
    (workspace.models / "converted").mkdir()
    (workspace.models / "converted" / "notes").write_text("mine")
    assert list(folder_problems(workspace)) == []
    (workspace.models / "generator-r9").mkdir()
    outcome = cli("-w", workspace.folder, "prune", "--yes", "--json")
    assert [removal["path"] for removal in json.loads(outcome.out)["removals"]] == ["models/generator-r9"]
    for name in (*THEIRS, "models/photos", "models/mine.tmp", "models/converted/notes"):
        assert (workspace.folder / name).exists(), name


def test_nothing_is_removed_if_the_config_is_invalid(workspace: Workspace, cli: Cli) -> None:
    workspace.config_file.write_text("generator: [")
    outcome = cli("-w", workspace.folder, "prune", "--yes")
    assert (outcome.code, bool(outcome.error)) == (1, True)
    assert (workspace.models / "generator-mine").exists()
    ((check, message),) = [(problem.check, problem.message) for problem in folder_problems(workspace)]
    assert (check, message.startswith("skipped")) == ("leftovers", True)


def test_a_pruned_model_whose_folder_is_put_back_can_be_used(workspace: Workspace, tmp_path: Path, cli: Cli) -> None:
    model = trained(workspace, "r5")
    shutil.copytree(workspace.folder / model.path, tmp_path / "kept")
    assert cli("-w", workspace.folder, "prune", "--yes").code == 0
    assert not (workspace.folder / model.path).exists()
    assert pruned_at(workspace, model) is not None
    shutil.copytree(tmp_path / "kept", workspace.folder / model.path)
    assert list(folder_problems(workspace)) == []
    # A changed folder is not the recorded model.
    (workspace.folder / model.path / "config.json").write_text("{}")
    assert [problem.message for problem in folder_problems(workspace)] == [
        f"{model.path}: {model.model_id} is recorded as pruned"
    ]
