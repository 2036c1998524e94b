"""Measures of scores, on scores that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from flywheel.core.statistics import mean_of_means, wilson
from flywheel.records import Task
from flywheel.reward import measures
from flywheel.reward.data import Pair, Thumb
from flywheel.reward.measures import SetScores
from flywheel.reward.sources import Split
from flywheel.reward.text import Answer

TASK = Task(instruction="i", input="x")


def pairs(*scores: tuple[float, float]) -> SetScores:
    return SetScores(scores={Split.VALIDATION: np.array(scores), Split.TEST: np.array(scores)}, liked=None)


def thumbs(validation: list[tuple[float, bool]], test: list[tuple[float, bool]]) -> SetScores:
    splits = {Split.VALIDATION: validation, Split.TEST: test}
    return SetScores(
        scores={split: np.array([[score] for score, _ in rows]) for split, rows in splits.items()},
        liked={split: np.array([liked for _, liked in rows]) for split, rows in splits.items()},
    )


class Fixed:
    """Scores an answer by the number in its output."""

    def score_answers(self, answers: list[Answer]) -> list[float]:
        return [float(answer.output) for answer in answers]


def answer(output: object) -> Answer:
    return Answer(task=TASK, output=str(output))


def test_scores_keep_the_shape_of_their_rows() -> None:
    rows = {
        Split.TEST: [
            Pair(chosen=answer(2), rejected=answer(1), prompt="p"),
            Pair(chosen=answer(5), rejected=answer(7), prompt="q"),
        ]
    }
    assert measures.score_set(Fixed(), rows).scores[Split.TEST].tolist() == [[2, 1], [5, 7]]
    one = measures.score_set(Fixed(), {Split.TEST: [Thumb(answer=answer(3), liked=True, prompt="p")]})
    assert one.scores[Split.TEST].tolist() == [[3]]
    assert one.liked is not None


def test_a_tie_counts_half() -> None:
    assert measures.accuracy(pairs((2, 1), (1, 2), (1, 1), (3, 1)), Split.TEST) == 0.625


def test_the_threshold_of_thumbs_comes_from_the_validation_split() -> None:
    validation = [(float(score), score > 5) for score in range(11)]
    test = [(5.6, True), (5.4, False), (9, False), (0, False)]
    assert measures.outcomes(thumbs(validation, test), Split.TEST).tolist() == [1, 1, 0, 1]


def test_area_under_curve_counts_all_combinations() -> None:
    rows = [(1.0, False), (2.0, True), (3.0, False), (4.0, True), (4.0, False)]
    right = sum((a > b) + 0.5 * (a == b) for a, liked in rows for b, other in rows if liked and not other)
    assert measures.area_under_curve(thumbs(rows, rows), Split.TEST) == pytest.approx(right / 6)


def test_ensembles_put_members_on_one_scale_first() -> None:
    loud, quiet = pairs((200, 100), (100, 300)), pairs((0.1, 0.5), (0.4, 0.2))
    mean = measures.ensemble([{"s": loud}, {"s": quiet}], how="mean")["s"].scores[Split.TEST]
    lowest = measures.ensemble([{"s": loud}, {"s": quiet}], how="min")["s"].scores[Split.TEST]
    scaled = [(one.scores[Split.TEST] - one.scores[Split.TEST].mean()) / one.scores[Split.TEST].std() for one in (loud, quiet)]
    assert mean == pytest.approx((scaled[0] + scaled[1]) / 2)
    assert lowest == pytest.approx(np.minimum(*scaled))


@pytest.mark.parametrize("longer_wins", [True, False])
def test_the_length_baseline_learns_its_direction_on_the_validation_split(longer_wins: bool) -> None:
    long, short = answer("x" * 9), answer("x")
    row = Pair(chosen=long if longer_wins else short, rejected=short if longer_wins else long, prompt="p")
    found = measures.by_length({"s": {Split.VALIDATION: [row], Split.TEST: [row]}})["s"]
    assert measures.accuracy(found, Split.TEST) == 1.0


def test_rank_correlation_of_a_constant_is_nothing() -> None:
    assert measures.rank_correlation(np.ones(5), np.arange(5.0)) == 0.0
    assert measures.rank_correlation(np.arange(5.0), np.arange(5.0) ** 3) == pytest.approx(1.0)


@pytest.mark.parametrize(("right", "rows"), [(0, 10), (7, 10), (450, 500), (10, 10)])
def test_wilson_is_scipys(right: int, rows: int) -> None:
    estimate = wilson(np.array([1.0] * right + [0.0] * (rows - right)), confidence=0.95)
    expected = stats.binomtest(right, rows).proportion_ci(0.95, method="wilson")
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))


def test_the_interval_of_a_mean_of_means_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        estimate = mean_of_means([rng.normal(0.1, 1, 200), rng.normal(-0.1, 2, 400)], confidence=0.95)
        covered += estimate.low <= 0 <= estimate.high
    assert 0.93 <= covered / 1000 <= 0.97
