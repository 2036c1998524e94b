"""How good scores are: pure functions of what a scorer gave the rows of a set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from flywheel.reward.data import PreferenceSet, Row, Thumb
from flywheel.reward.sources import Split
from flywheel.reward.text import Scorer

Array = NDArray[np.float64]
BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What a scorer gave the rows of one set, split by split."""

    scores: Mapping[Split, Array]
    """Shape (rows, 1) for thumbs, (rows, 2) for pairs, the chosen output first."""
    liked: Mapping[Split, NDArray[np.bool_]] | None
    """Labels of thumbs; None for pairs."""

    def with_scores(self, scores: Mapping[Split, Array]) -> Scored:
        """The same rows with other scores."""
        return Scored(scores=scores, liked=self.liked)

    def first(self, rows: int) -> Scored:
        """The same with at most so many rows of each split."""
        liked = None if self.liked is None else {split: labels[:rows] for split, labels in self.liked.items()}
        return Scored(scores={split: scores[:rows] for split, scores in self.scores.items()}, liked=liked)


def score_set(scorer: Scorer, rows: Mapping[Split, Sequence[Row]]) -> Scored:
    """Score the rows of a set, each split in one call."""
    scores = {}
    for split, of_split in rows.items():
        found = iter(scorer.score([answer for row in of_split for answer in row.answers]))
        scores[split] = np.array([[next(found) for _ in row.answers] for row in of_split])
    return Scored(scores=scores, liked=labels_of(rows))


def labels_of(rows: Mapping[Split, Sequence[Row]]) -> dict[Split, NDArray[np.bool_]] | None:
    """The labels of thumbs, None for pairs."""
    if any(not isinstance(row, Thumb) for of_split in rows.values() for row in of_split):
        return None
    return {split: np.array([row.liked for row in of_split if isinstance(row, Thumb)]) for split, of_split in rows.items()}


def rows_of(one: PreferenceSet, *splits: Split) -> dict[Split, list[Row]]:
    """The rows of these splits of a set."""
    return {split: one.of(split) for split in splits}


def outcomes(scored: Scored, split: Split) -> Array:
    """Of each row whether the scorer was right: 1, 0, or 0.5 for a tie.

    For pairs: the chosen output scores higher. For thumbs: the score is on the right side of the threshold that
    does best on the validation split, since a score has no zero of its own.
    """
    scores = scored.scores[split]
    if scored.liked is None:
        return np.asarray((scores[:, 0] > scores[:, 1]) + 0.5 * (scores[:, 0] == scores[:, 1]), dtype=float)
    threshold = _best_threshold(scored.scores[Split.VALIDATION][:, 0], scored.liked[Split.VALIDATION])
    return np.asarray((scores[:, 0] > threshold) == scored.liked[split], dtype=float)


def accuracy(scored: Scored, split: Split) -> float:
    """The share of rows on which the scorer was right."""
    return float(outcomes(scored, split).mean())


def _best_threshold(scores: Array, liked: NDArray[np.bool_]) -> float:
    """The threshold with the most labels on their side, halfway between two scores."""
    order = np.argsort(scores)
    ranked, labels = scores[order], liked[order]
    below = np.concatenate([[0], np.cumsum(~labels)])
    above = np.concatenate([np.cumsum(labels[::-1])[::-1], [0]])
    cuts = np.concatenate([[ranked[0] - 1], (ranked[1:] + ranked[:-1]) / 2, [ranked[-1] + 1]])
    return float(cuts[int(np.argmax(below + above))])


def area_under_curve(scored: Scored, split: Split) -> float:
    """The chance that a better output scores higher than a worse one: of a pair, or of any liked and disliked two.

    For thumbs it is the Mann-Whitney statistic over all (liked, disliked) combinations (Hanley & McNeil 1982).
    """
    scores = scored.scores[split]
    if scored.liked is None:
        return accuracy(scored, split)
    liked = scored.liked[split]
    statistic = stats.mannwhitneyu(scores[liked, 0], scores[~liked, 0]).statistic
    return float(statistic / (liked.sum() * (~liked).sum()))


def calibration_error(scored: Scored, split: Split) -> float:
    """How far the stated confidence is from the share that is right, on average over ten bins of equal size.

    Expected calibration error (Naeini et al. 2015, section 2) of the probabilities that a logistic fitted on the
    validation split makes of the scores (Platt 1999): of the margin for pairs, of the score for thumbs.
    """
    fitted = _fit_logistic(*_evidence(scored, Split.VALIDATION), intercept=scored.liked is not None)
    evidence, truth = _evidence(scored, split)
    chance = _sigmoid(fitted[0] * evidence + fitted[1])
    confidence, right = np.maximum(chance, 1 - chance), (chance > 0.5) == truth
    bins = np.array_split(np.argsort(confidence), BINS)
    gaps = [abs(confidence[one].mean() - right[one].mean()) * len(one) for one in bins if len(one)]
    return float(sum(gaps) / len(confidence))


def _evidence(scored: Scored, split: Split) -> tuple[Array, NDArray[np.bool_]]:
    scores = scored.scores[split]
    if scored.liked is not None:
        return scores[:, 0], scored.liked[split]
    return scores[:, 0] - scores[:, 1], np.ones(len(scores), dtype=bool)


def _fit_logistic(evidence: Array, truth: NDArray[np.bool_], *, intercept: bool) -> tuple[float, float]:
    """Slope and intercept of the most likely logistic; a weak pull to 0 keeps the slope finite where all are right."""
    sign = np.where(truth, 1.0, -1.0)

    def loss(values: Array) -> float:
        slope, offset = values[0], values[1] if intercept else 0.0
        return float(np.logaddexp(0, -sign * (slope * evidence + offset)).mean() + 1e-4 * slope**2)

    found = optimize.minimize(loss, np.array([1.0, 0.0]), method="Nelder-Mead").x
    return float(found[0]), float(found[1]) if intercept else 0.0


def _sigmoid(values: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -500, 500))))


def rank_correlation(scores: Array, others: Array) -> float:
    """Spearman's correlation; 0 where one of them does not vary."""
    if np.ptp(scores) == 0 or np.ptp(others) == 0:
        return 0.0
    return float(stats.spearmanr(scores, others).statistic)


def disagreement(one: Scored, other: Scored, split: Split) -> float:
    """The share of rows on which one scorer is right and the other is not."""
    return float(np.mean(outcomes(one, split) != outcomes(other, split)))


def regret(scores: Array, worth: Array) -> Array:
    """What is lost by taking the highest score: the best worth of each group minus that of the pick.

    Both of shape (groups, n), -inf in ``scores`` for what may not win.
    """
    picked = np.take_along_axis(worth, np.argmax(scores, axis=1)[:, None], axis=1)[:, 0]
    return np.asarray(worth.max(axis=1) - picked)


def standardised(scored: Mapping[str, Scored]) -> dict[str, Scored]:
    """Scores in standard deviations over all validation outputs of all sets: a scale that scorers have in common."""
    everything = np.concatenate([one.scores[Split.VALIDATION].ravel() for one in scored.values()])
    mean, std = everything.mean(), everything.std() or 1.0
    return {
        name: one.with_scores({split: (scores - mean) / std for split, scores in one.scores.items()})
        for name, one in scored.items()
    }


def ensemble(members: Sequence[Mapping[str, Scored]], *, how: str) -> dict[str, Scored]:
    """The mean or the lowest of the members' standardised scores, set by set.

    The lowest is the cautious choice of Coste et al. (Reward Model Ensembles Help Mitigate Overoptimization, section 4).
    """
    scaled = [standardised(member) for member in members]
    combine = np.mean if how == "mean" else np.min
    return {
        name: one.with_scores(
            {split: combine([member[name].scores[split] for member in scaled], axis=0) for split in one.scores}
        )
        for name, one in scaled[0].items()
    }


def by_length(sets: Mapping[str, Mapping[Split, Sequence[Row]]]) -> dict[str, Scored]:
    """The baseline that sees nothing but how long an output is; whether long or short is better, the validation split says."""
    found = {}
    for name, rows in sets.items():
        lengths = {
            split: np.array([[float(len(answer.output)) for answer in row.answers] for row in of_split])
            for split, of_split in rows.items()
        }
        longer = Scored(scores=lengths, liked=labels_of(rows))
        sign = 1.0 if area_under_curve(longer, Split.VALIDATION) >= 0.5 else -1.0
        found[name] = longer.with_scores({split: sign * values for split, values in lengths.items()})
    return found
