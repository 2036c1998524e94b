"""The report on a reward model, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flywheel.core.statistics import Estimate
from flywheel.reward.report import ScorerReport, _sentence
from tests.conftest import Cli, copy

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    return copy(built, tmp_path)


def test_the_report_has_every_scorer_on_every_set(folder: Path, cli: Cli) -> None:
    ran = cli("-w", folder, "reward", "eval", "--json")
    assert ran.code == 0, ran.err
    report = json.loads(ran.out)
    scorers = {scorer["name"]: scorer for scorer in report["scorers"]}
    assert list(scorers) == ["thumbs", "pairs", "form", "joint", "merged", "mean", "min", "length"]
    for name, scorer in scorers.items():
        assert list(scorer["accuracy"]) == ["thumbs", "pairs", "form"]
        for estimate in scorer["accuracy"].values():
            assert 0 <= estimate["low"] <= estimate["value"] <= estimate["high"] <= 1
        assert scorer["average"] == pytest.approx(sum(estimate["value"] for estimate in scorer["accuracy"].values()) / 3)
        assert -1 <= scorer["length_correlation"] <= 1
        assert (scorer["seconds_per_1000"] is None) == (name == "length")
    assert scorers["mean"]["seconds_per_1000"] == pytest.approx(
        sum(scorers[name]["seconds_per_1000"] for name in ("thumbs", "pairs", "form"))
    )
    own = {name: scorers[name]["accuracy"][name]["value"] for name in ("thumbs", "pairs", "form")}
    merged = scorers["merged"]
    lost = {name: own[name] - merged["accuracy"][name]["value"] for name in own}
    assert merged["lost"] == pytest.approx(max(lost.values()))
    assert lost[merged["lost_on"]] == pytest.approx(max(lost.values()))
    assert report["single"] in own
    assert report["gain"]["value"] == pytest.approx(merged["average"] - scorers[report["single"]]["average"])
    assert report["disagreement"]["pairs"]["form"] == report["disagreement"]["form"]["pairs"] > 0
    assert report["disagreement"]["pairs"]["pairs"] == 0
    assert "merge_method: linear" in report["recipe"]


def test_the_report_as_tables(folder: Path, cli: Cli) -> None:
    result = cli("-w", folder, "reward", "eval", "--split", "validation")
    assert result.code == 0, result.err
    for heading in ("validation accuracy", "length correlation", "disagreement", "dropped", "merge_method"):
        assert heading in result.out


def report_of(name: str, average: float, lost: float = 0.01) -> ScorerReport:
    return ScorerReport(
        name=name, accuracy={"s": Estimate(value=average, low=average, high=average)}, average=average, lost=lost, lost_on="s",
        length_correlation=0.0, seconds_per_1000=1.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gain", "merged_of", "length", "quoted"),
    [
        ((0.02, 0.01, 0.03), 2, 0.5, "beats the best single member (a) by +2.0 points (+1.0 to +3.0)"),
        ((-0.02, -0.03, -0.01), 2, 0.5, "use a, the best single member, alone"),
        ((0.0, -0.01, 0.01), 2, 0.5, "(a) on 1,000 rows: +0.0 points (-1.0 to +1.0)"),
        ((0.0, 0.0, 0.0), 1, 0.5, "a selects alone"),
        ((0.02, 0.01, 0.03), 2, 0.9, "length alone scores 10.0 points higher"),
    ],
)
def test_the_sentence_says_whether_the_merge_is_worth_using(
    gain: tuple[float, float, float], merged_of: int, length: float, quoted: str
) -> None:
    scorers = [report_of("a", 0.78), report_of("merged", 0.8, -0.01), report_of("mean", 0.81), report_of("min", 0.7)]
    value, low, high = gain
    sentence = _sentence(
        [*scorers, report_of("length", length)], "a", Estimate(value=value, low=low, high=high), 1000, merged_of=merged_of
    )
    assert quoted in sentence
    assert "against a specialist: 0.0 points" in sentence
    assert "the mean ensemble scores 1.0 points higher and takes 1.0 times as long" in sentence
    assert ("length alone" in sentence) == (length > 0.8)
