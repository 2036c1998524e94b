"""The report on a reward model, from the command line to the chart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flywheel.core.statistics import Estimate
from flywheel.reward.report import ScorerReport, _sentence
from flywheel.workspace import Workspace
from tests.conftest import Cli, copy

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(turned: Path, tmp_path: Path) -> Path:
    return copy(turned, tmp_path)


def test_the_report_has_everybody_on_every_set(folder: Path, cli: Cli, tmp_path: Path) -> None:
    ran = cli("-w", folder, "reward", "eval", "--json", "--chart", tmp_path / "chart.svg")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    scorers = {one["name"]: one for one in told["scorers"]}
    assert list(scorers) == ["thumbs", "pairs", "form", "joint", "merged", "mean", "min", "length"]
    for name, one in scorers.items():
        assert list(one["accuracy"]) == ["thumbs", "pairs", "form"]
        for estimate in one["accuracy"].values():
            assert 0 <= estimate["low"] <= estimate["value"] <= estimate["high"] <= 1
        assert one["average"] == pytest.approx(sum(found["value"] for found in one["accuracy"].values()) / 3)
        assert -1 <= one["length_correlation"] <= 1
        assert 0 <= one["calibration_error"] <= 1
        assert one["regret"]["value"] >= 0
        assert (one["seconds_per_1000"] is None) == (name == "length")
        assert (one["lost"] is None) == (name == "length")
    assert scorers["mean"]["seconds_per_1000"] == pytest.approx(
        sum(scorers[name]["seconds_per_1000"] for name in ("thumbs", "pairs", "form"))
    )
    own = {name: scorers[name]["accuracy"][name]["value"] for name in ("thumbs", "pairs", "form")}
    merged = scorers["merged"]
    lost = {name: own[name] - merged["accuracy"][name]["value"] for name in own}
    assert merged["lost"] == pytest.approx(max(lost.values()))
    assert lost[merged["lost_on"]] == pytest.approx(max(lost.values()))
    assert told["single"] in own
    assert told["gain"]["value"] == pytest.approx(merged["average"] - scorers[told["single"]]["average"])
    assert told["candidates"] == "r2"
    assert told["regret_by_chance"] > 0
    assert told["disagreement"]["pairs"]["form"] == told["disagreement"]["form"]["pairs"] > 0
    assert told["disagreement"]["pairs"]["pairs"] == 0
    assert "merge_method: linear" in told["recipe"]
    assert (tmp_path / "chart.svg").read_text().startswith("<svg")


def test_the_report_as_tables_and_a_picture(folder: Path, cli: Cli, tmp_path: Path) -> None:
    ran = cli("-w", folder, "reward", "eval", "--split", "validation", "--chart", tmp_path / "chart.png")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("merged ")
    for heading in ("validation accuracy", "length correlation", "regret in r2", "disagreement", "dropped", "merge_method"):
        assert heading in ran.out
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_depths_build_shallower_models_and_leave_the_configured_one(folder: Path, cli: Cli) -> None:
    before = cli("-w", folder, "reward", "score", "merged", "a text").out
    ran = cli("-w", folder, "reward", "eval", "--depths", "1,3", "--json")
    assert ran.code == 0, ran.err
    shallow, configured = json.loads(ran.out)["depths"]
    assert (shallow["layers"], configured["layers"]) == (1, 3)
    assert shallow["parameters"] < configured["parameters"]
    assert set(shallow["accuracy"]) == {"thumbs", "pairs", "form"}
    assert cli("-w", folder, "reward", "score", "merged", "a text").out == before
    names = {model["name"] for model in json.loads(cli("-w", folder, "sql", "SELECT name FROM models", "--json").out)}
    assert {"merged", "merged-1-layers", "pairs-1-layers"} <= names
    assert "merged-3-layers" not in names


def test_regret_of_a_round_with_a_judge_that_cannot_tell_is_left_out(folder: Path, cli: Cli) -> None:
    workspace = Workspace(folder)
    text = workspace.config_file.read_text().replace("flywheel.nano.verifier:judge", "tests.judges:clueless")
    workspace.config_file.write_text(text)
    told = json.loads(cli("-w", folder, "reward", "eval", "--json").out)
    assert told["candidates"] is None
    assert all(one["regret"] is None for one in told["scorers"])


@pytest.mark.parametrize(
    ("arguments", "quoted"),
    [
        (["--depths", "2,x"], "'2,x'"),
        (["--depths", "0"], "'0'"),
        (["--depths", "9"], "reward.layers is 9"),
        (["--chart", "chart.pdf"], "chart.pdf"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], quoted: str, folder: Path, cli: Cli) -> None:
    ran = cli("-w", folder, "reward", "eval", *arguments)
    assert ran.code == 1
    assert quoted in ran.error
    assert len([line for line in ran.err.splitlines() if line.startswith("error:")]) == 1


def report_of(name: str, average: float, lost: float | None = None) -> ScorerReport:
    return ScorerReport(
        name=name, accuracy={"s": Estimate(value=average, low=average, high=average)}, average=average, lost=lost, lost_on="s",
        length_correlation=0.0, calibration_error=0.0, regret=None, seconds_per_1000=1.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gain", "merged_of", "length", "said"),
    [
        ((0.02, 0.01, 0.03), 2, 0.5, "merged beats the best single member, a, by +2.0 points (+1.0 to +3.0) on average"),
        ((-0.02, -0.03, -0.01), 2, 0.5, "use a alone"),
        ((0.0, -0.01, 0.01), 2, 0.5, "cannot be told apart on 1,000 rows"),
        ((0.0, 0.0, 0.0), 1, 0.5, "a selects alone: no merge that was tried beat it"),
        ((0.02, 0.01, 0.03), 2, 0.9, "length alone has 10.0 points more"),
    ],
)
def test_the_sentence_says_whether_the_merge_is_worth_using(
    gain: tuple[float, float, float], merged_of: int, length: float, said: str
) -> None:
    scorers = [report_of("a", 0.78), report_of("merged", 0.8, -0.01), report_of("mean", 0.81), report_of("min", 0.7)]
    value, low, high = gain
    sentence = _sentence(
        [*scorers, report_of("length", length)], "a", Estimate(value=value, low=low, high=high), 1000, merged_of=merged_of
    )
    assert said in sentence
    assert "it loses nothing against any specialist" in sentence
    assert "the ensemble (mean) has 1.0 points more at 1.0 times the time" in sentence
    assert ("length alone" in sentence) == (length > 0.8)
