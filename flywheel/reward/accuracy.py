"""How often a reward model agrees with held-out preferences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from flywheel.reward.data import Pair, Split, Thumb
from flywheel.reward.text import Scorer

Preferences = Sequence[Thumb | Pair]


def accuracies(scorer: Scorer, sets: Mapping[str, Preferences], split: Split = Split.TEST) -> dict[str, float]:
    """Accuracy on one split of every set, by its name.

    For pairs: the share in which the chosen output scores higher, a tie counting half. For thumbs: the share on
    the right side of the threshold that does best on the validation split, since a score has no zero of its own.
    """
    return {name: _accuracy(scorer, rows, split) for name, rows in sets.items()}


def _accuracy(scorer: Scorer, rows: Preferences, split: Split) -> float:
    pairs = [row for row in rows if isinstance(row, Pair) and row.split == split]
    if pairs:
        chosen = np.array(scorer.score([row.chosen for row in pairs]))
        rejected = np.array(scorer.score([row.rejected for row in pairs]))
        return float(np.mean((chosen > rejected) + 0.5 * (chosen == rejected)))
    thumbs = [row for row in rows if isinstance(row, Thumb)]
    threshold = _best_threshold(*_scores(scorer, thumbs, Split.VALIDATION))
    scores, liked = _scores(scorer, thumbs, split)
    return float(np.mean((scores > threshold) == liked))


def _scores(scorer: Scorer, thumbs: Sequence[Thumb], split: Split) -> tuple[np.ndarray, np.ndarray]:
    rows = [row for row in thumbs if row.split == split]
    return np.array(scorer.score([row.answer for row in rows])), np.array([row.liked for row in rows])


def _best_threshold(scores: np.ndarray, liked: np.ndarray) -> float:
    """The threshold with the most labels on their side, halfway between two scores."""
    order = np.argsort(scores)
    ranked, labels = scores[order], liked[order]
    below = np.concatenate([[0], np.cumsum(~labels)])
    above = np.concatenate([np.cumsum(labels[::-1])[::-1], [0]])
    cuts = np.concatenate([[ranked[0] - 1], (ranked[1:] + ranked[:-1]) / 2, [ranked[-1] + 1]])
    return float(cuts[int(np.argmax(below + above))])
