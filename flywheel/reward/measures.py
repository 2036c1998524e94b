"""How good scores are: pure functions of the scores of a dataset's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from flywheel.reward.data import PreferenceSet, Row, Thumb
from flywheel.reward.sources import Split
from flywheel.reward.text import Answer, Scorer

Array = NDArray[np.float64]
Labels = NDArray[np.bool_]
SetRows = Mapping[Split, Sequence[Row]]
"""The rows of one set by split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetScores:
    """The scores of one set's rows, by split."""

    scores: Mapping[Split, Array]
    """Shape (rows, 1) for thumbs, (rows, 2) for pairs, the chosen output first."""
    liked: Mapping[Split, Labels] | None
    """Labels of thumbs; None for pairs."""


def score_sets(scorer: Scorer, sets: Mapping[str, SetRows]) -> dict[str, SetScores]:
    """Score the rows of several sets."""
    return {name: score_set(scorer, rows) for name, rows in sets.items()}


def score_set(scorer: Scorer, rows: SetRows) -> SetScores:
    """Score the rows of a set, each split in one call."""
    scores, liked = {}, {}
    for split, split_rows in rows.items():
        flat = scorer.score_answers([answer for row in split_rows for answer in row.answers])
        scores[split] = np.reshape(np.array(flat), (len(split_rows), -1))
        liked[split] = np.array([row.liked for row in split_rows if isinstance(row, Thumb)])
    return SetScores(scores=scores, liked=liked if any(map(len, liked.values())) else None)


def rows_of(data: PreferenceSet, *splits: Split) -> dict[Split, list[Row]]:
    """The rows of these splits of a set."""
    return {split: data.of(split) for split in splits}


def outcomes(scored: SetScores, split: Split) -> Array:
    """For each row whether the scorer was right: 1, 0, or 0.5 for a tie.

    For pairs: the chosen output scores higher. For thumbs: the score is on the right side of the threshold that does best
    on the validation split, since a score has no zero of its own.
    """
    scores = scored.scores[split]
    if scored.liked is None:
        return np.asarray((scores[:, 0] > scores[:, 1]) + 0.5 * (scores[:, 0] == scores[:, 1]), dtype=float)
    threshold = _best_threshold(scored.scores[Split.VALIDATION][:, 0], scored.liked[Split.VALIDATION])
    return np.asarray((scores[:, 0] > threshold) == scored.liked[split], dtype=float)


def accuracy(scored: SetScores, split: Split) -> float:
    """The share of rows on which the scorer was right."""
    return float(outcomes(scored, split).mean())


def _best_threshold(scores: Array, liked: Labels) -> float:
    """The threshold with the most labels on their side, halfway between two scores."""
    order = np.argsort(scores)
    ranked, labels = scores[order], liked[order]
    below = np.concatenate([[0], np.cumsum(~labels)])
    above = np.concatenate([np.cumsum(labels[::-1])[::-1], [0]])
    cuts = np.concatenate([[ranked[0] - 1], (ranked[1:] + ranked[:-1]) / 2, [ranked[-1] + 1]])
    return float(cuts[int(np.argmax(below + above))])


def area_under_curve(scored: SetScores, split: Split) -> float:
    """The chance that a better output scores higher than a worse one: of a pair, or of any liked and disliked two.

    For thumbs it is the Mann-Whitney statistic over all (liked, disliked) combinations (Hanley & McNeil 1982).
    """
    if scored.liked is None:
        return accuracy(scored, split)
    scores, liked = scored.scores[split], scored.liked[split]
    return float(stats.mannwhitneyu(scores[liked, 0], scores[~liked, 0]).statistic / (liked.sum() * (~liked).sum()))


def rank_correlation(scores: Array, others: Array) -> float:
    """Spearman's correlation over all outputs; 0 where one of them does not vary."""
    if np.ptp(scores) == 0 or np.ptp(others) == 0:
        return 0.0
    return float(stats.spearmanr(scores.ravel(), others.ravel()).statistic)


def ensemble(members: Sequence[Mapping[str, SetScores]], *, how: str) -> dict[str, SetScores]:
    """The mean or lowest of the members' scores, set by set, in standard deviations over all validation outputs of all sets.

    The lowest is the cautious choice of Coste et al. (Reward Model Ensembles Help Mitigate Overoptimization, section 4).
    """
    combine = np.mean if how == "mean" else np.min
    everything = [np.concatenate([sets.scores[Split.VALIDATION].ravel() for sets in member.values()]) for member in members]
    scales = [(scores.mean(), scores.std() or 1.0) for scores in everything]

    def combined(name: str, split: Split) -> Array:
        scaled = [(member[name].scores[split] - mean) / std for member, (mean, std) in zip(members, scales, strict=True)]
        return np.asarray(combine(scaled, axis=0))

    return {
        name: replace(scored, scores={split: combined(name, split) for split in scored.scores})
        for name, scored in members[0].items()
    }


class Length:
    """Scores an output by its number of characters."""

    def score_answers(self, answers: Sequence[Answer]) -> list[float]:
        return [float(len(answer.output)) for answer in answers]


def by_length(sets: Mapping[str, SetRows]) -> dict[str, SetScores]:
    """The length baseline; whether long or short is better comes from the validation split."""

    def signed(lengths: SetScores) -> SetScores:
        sign = 1.0 if area_under_curve(lengths, Split.VALIDATION) >= 0.5 else -1.0
        return replace(lengths, scores={split: sign * values for split, values in lengths.scores.items()})

    return {name: signed(lengths) for name, lengths in score_sets(Length(), sets).items()}
