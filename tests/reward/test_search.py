"""The search for the merge: what it tries, what it picks, and what it must not look at."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from flywheel.config import Config, SearchConfig
from flywheel.core.progress import Silent
from flywheel.records import ModelKind
from flywheel.reward.build import Lab, configured_reward_model
from flywheel.reward.data import Pair, Row
from flywheel.reward.recipe import read_sets
from flywheel.reward.search import draw_plans, search_merge
from flywheel.reward.sources import Split
from flywheel.store import reading
from flywheel.workspace import Workspace
from tests.conftest import copy


@pytest.fixture
def workspace(built: Path, tmp_path: Path) -> Workspace:
    return Workspace(copy(built, tmp_path))


def searching(config: Config, **search: object) -> Config:
    reward = config.reward.model_copy(update={"search": SearchConfig(**search)})
    return config.model_copy(update={"reward": reward})


def test_the_same_merges_are_drawn_for_the_same_seed(small_config: Config) -> None:
    reward = searching(small_config, trials=40).reward
    plans = draw_plans(reward, random.Random(3))
    assert plans == draw_plans(reward, random.Random(3))
    assert plans != draw_plans(reward, random.Random(4))
    assert len(plans) == 40
    assert dict(plans[0].weights) == {name: member.weight for name, member in reward.members.items()}
    assert {plan.merge.method for plan in plans} == set(reward.search.methods)
    assert all(weight > 0 for plan in plans for weight in plan.weights.values())


def test_slerp_is_drawn_for_two_members_only(small_config: Config) -> None:
    members = small_config.reward.members
    two = {name: members[name] for name in ("thumbs", "pairs")}
    search = SearchConfig(trials=30, methods=("slerp", "linear"))
    for chosen, expected in ((members, {"linear"}), (two, {"slerp", "linear"})):
        reward = small_config.reward.model_copy(update={"members": chosen, "search": search})
        assert {plan.merge.method for plan in draw_plans(reward, random.Random(0))[2:]} == expected


def test_a_build_with_a_search_picks_a_merge_and_keeps_all_trials(workspace: Workspace, small_config: Config) -> None:
    config = searching(small_config, trials=6)
    lab = Lab(config, workspace, Silent())
    merged = lab.reward_model()
    assert configured_reward_model(config, workspace) == merged
    search = merged.facts.search
    assert search is not None
    trials = reading.query(workspace.store.path, "SELECT * FROM merge_trials ORDER BY trial").as_dicts()
    assert [row["trial"] for row in trials] == list(range(6))
    assert search.best.trial == max(trials, key=lambda row: (row["retained"], row["accuracy"]))["trial"]
    assert search.merged == (search.best.accuracy > search.single_accuracy)
    assert set(merged.facts.weights) == ({"thumbs", "pairs", "form"} if search.merged else {search.single})
    assert (workspace.locate(merged) / "mergekit.yaml").is_file()


class Reads:
    """Scores at random, and remembers what it was asked to score."""

    def __init__(self, quality: float, seen: set[str]) -> None:
        self._rng, self._quality, self._seen = np.random.default_rng(0), quality, seen

    def score_answers(self, answers: list[object]) -> list[float]:
        self._seen |= {answer.output for answer in answers}  # type: ignore[attr-defined]
        worth = np.tile([1.0, 0.0], len(answers) // 2)
        return list(self._quality * worth + self._rng.normal(size=len(answers)))


@pytest.mark.parametrize(("quality", "merged"), [(3.0, True), (0.2, False)])
def test_a_merge_is_picked_only_where_it_beats_the_best_member(
    quality: float, merged: bool, workspace: Workspace, small_config: Config
) -> None:
    config = searching(small_config, trials=4)
    rows = {
        name: {Split.VALIDATION: [row for row in data.of(Split.VALIDATION) if isinstance(row, Pair)]}
        for name, data in read_sets(config).items()
        if data.kind == "pairs"
    }
    members = {model.name: workspace.locate(model) for model in workspace.store.models(ModelKind.MEMBER) if model.name in rows}
    reward = config.reward.model_copy(update={"members": {name: config.reward.members[name] for name in rows}})
    seen: set[str] = set()

    def load(folder: Path) -> Reads:
        return Reads(1.0 if folder in members.values() else quality, seen)

    base = workspace.locate(workspace.store.models(ModelKind.BASE)[1])
    search = search_merge(base, members, rows, load, reward, progress=Silent())
    assert search.result.merged is merged
    assert (len(search.plan.weights) == 2) is merged
    assert search.result.best in search.trials
    held: list[Row] = [row for data in read_sets(config).values() for row in data.of(Split.TEST)]
    assert not seen & ({answer.output for row in held for answer in row.answers} - {
        answer.output for splits in rows.values() for row in splits[Split.VALIDATION] for answer in row.answers
    })  # fmt: skip
