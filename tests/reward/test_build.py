"""Building: what is there is not built again, and what changes is."""

from __future__ import annotations

from pathlib import Path

import pytest

from flywheel.config import Config, JointConfig
from flywheel.core.files import digest_model
from flywheel.core.progress import Advance, Silent
from flywheel.records import ModelKind
from flywheel.reward import build
from flywheel.reward.build import Lab, build_reward_model
from flywheel.reward.members import Job, Trained, train_member
from flywheel.workspace import Workspace
from tests.conftest import Cli, copy

pytestmark = pytest.mark.slow


@pytest.fixture
def workspace(built: Path, tmp_path: Path) -> Workspace:
    return Workspace(copy(built, tmp_path))


def with_members(config: Config, *names: str) -> Config:
    """A quick recipe without joint training, of some of the members."""
    members = {name: config.reward.members[name] for name in names}
    changes = {"members": members, "joint": JointConfig(), "args": {"max_steps": 8}, "learning_rate": 1e-3}
    return config.model_copy(update={"reward": config.reward.model_copy(update=changes)})


def test_nothing_is_built_twice(workspace: Workspace, small_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "train_member", None)
    (merged,) = workspace.store.models(ModelKind.REWARD)
    assert build_reward_model(small_config, workspace, Silent()) == merged


def test_a_new_member_leaves_the_others_trained(
    workspace: Workspace, small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    real = train_member

    def train(job: Job, advance: Advance) -> Trained:
        trained.append(job.data.source)
        return real(job, advance)

    monkeypatch.setattr(build, "train_member", train)
    alone = Lab(with_members(small_config, "pairs"), workspace, Silent()).members()["pairs"]
    together = Lab(with_members(small_config, "pairs", "form"), workspace, Silent()).members()
    assert [Path(source).stem for source in trained] == ["pairs", "form"]
    # The same weights on another scale: its reference texts are those of all sets.
    assert together["pairs"].model_id != alone.model_id
    first, second = (workspace.locate(model) / "model.safetensors" for model in (alone, together["pairs"]))
    assert first.read_bytes() == second.read_bytes()
    assert workspace.store.learning_curve(together["pairs"].model_id) == workspace.store.learning_curve(alone.model_id)


def test_a_merge_of_other_weights_keeps_the_members(workspace: Workspace, small_config: Config, cli: Cli) -> None:
    before = {model.model_id for model in workspace.store.models(ModelKind.MEMBER)}
    ran = cli("-w", workspace.folder, "reward", "build", "--set", "reward.members.thumbs.weight=3", "--json")
    assert ran.code == 0, ran.err
    assert {model.model_id for model in workspace.store.models(ModelKind.MEMBER)} == before
    first, second = workspace.store.models(ModelKind.REWARD)
    assert second.facts.weights["thumbs"] == 3
    assert digest_model(workspace.locate(first)) != digest_model(workspace.locate(second))


def test_a_build_says_what_it_dropped_and_how_it_searched(workspace: Workspace, cli: Cli) -> None:
    config = workspace.config()
    path = config.path(config.reward.members["pairs"].data)
    doubled = workspace.folder / "pairs.jsonl"
    lines = path.read_text().splitlines()
    doubled.write_text("\n".join([*lines, *lines[:5]]))
    sets = [
        f"reward.members.pairs.data={doubled}",
        "reward.joint.epochs=0.3",
        "reward.search.trials=3",
    ]
    ran = cli("-w", workspace.folder, "reward", "build", *(part for override in sets for part in ("--set", override)))
    assert ran.code == 0, ran.err
    assert "pairs: trained on" in ran.out
    assert "dropped 5 duplicate" in ran.out
    assert "the best of 3 merges" in ran.out
