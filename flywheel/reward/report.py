"""The report on a reward model: is the merge worth using, and what is it blind to.

Members, merge, ensembles and the length baseline on every set.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.config import Config
from flywheel.core.progress import Progress
from flywheel.core.statistics import Estimate, mean_of_means, wilson
from flywheel.reward import measures
from flywheel.reward.build import Lab
from flywheel.reward.measures import Length, SetRows, SetScores, accuracy, outcomes, rows_of, score_sets
from flywheel.reward.merge import RECIPE
from flywheel.reward.model import load_scorer
from flywheel.reward.sources import Split
from flywheel.workspace import Workspace

LENGTH = "length"
JOINT = "joint"
MERGED = "merged"
ENSEMBLES = ("mean", "min")


@dataclass(frozen=True, slots=True, kw_only=True)
class SetReport:
    """What a set consists of."""

    kind: str
    train: int
    validation: int
    test: int
    dropped: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerReport:
    """How one scorer did."""

    name: str
    accuracy: Mapping[str, Estimate]
    """By set, with Wilson intervals."""
    average: float
    lost: float | None
    """Accuracy lost against the specialist on the set where most is lost; None for the length baseline."""
    lost_on: str | None
    length_correlation: float
    """Spearman's correlation of score and characters, on average over the sets."""
    seconds_per_1000: float | None
    """Time to score a thousand texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardReport:
    """All scorers on all sets."""

    split: str
    confidence: float
    sets: Mapping[str, SetReport]
    scorers: Sequence[ScorerReport]
    single: str
    """The best single member on the average of the validation splits."""
    gain: Estimate
    """Average accuracy of the merge minus that of the best single member, paired by row."""
    sentence: str
    disagreement: Mapping[str, Mapping[str, float]]
    """Share of rows on which one member is right and the other is not."""
    recipe: str
    """mergekit's YAML of the merge."""


def evaluate_reward_model(config: Config, workspace: Workspace, progress: Progress, *, split: Split) -> RewardReport:
    """Measure the configured reward model, built if missing, beside everything that could replace it."""
    lab, confidence = Lab(config, workspace, progress), config.evaluation.confidence
    members, merged = lab.members(), lab.reward_model()
    rows: dict[str, SetRows] = {name: rows_of(data, *sorted({Split.VALIDATION, split})) for name, data in lab.sets.items()}
    models = {**members, **({JOINT: lab.start()} if config.reward.joint.epochs else {}), MERGED: merged}
    loaded = {name: load_scorer(workspace.locate(model), config) for name, model in models.items()}
    texts = sum(len(row.answers) for data in lab.sets.values() for row in data.rows if row.split in (Split.VALIDATION, split))
    scored: dict[str, dict[str, SetScores]] = {}
    seconds: dict[str, float] = {}
    for name, scorer in loaded.items():
        started = time.perf_counter()
        scored[name] = score_sets(scorer, rows)
        seconds[name] = 1000 * (time.perf_counter() - started) / texts
    for how in ENSEMBLES:
        scored[how] = measures.ensemble([scored[name] for name in members], how=how)
        seconds[how] = sum(seconds[name] for name in members)
    scored[LENGTH] = measures.by_length(rows)
    lengths = score_sets(Length(), rows)
    specialists = {name: accuracy(scored[name][name], split) for name in members}

    def report_on(name: str, sets: Mapping[str, SetScores]) -> ScorerReport:
        accuracies = {key: wilson(outcomes(scores, split), confidence=confidence) for key, scores in sets.items()}
        lost = {key: specialists[key] - estimate.value for key, estimate in accuracies.items()}
        most = max(lost, key=lambda key: lost[key])
        correlations = [measures.rank_correlation(sets[key].scores[split], lengths[key].scores[split]) for key in sets]
        return ScorerReport(
            name=name,
            accuracy=accuracies,
            average=_mean(estimate.value for estimate in accuracies.values()),
            lost=None if name == LENGTH else lost[most],
            lost_on=None if name == LENGTH else most,
            length_correlation=_mean(correlations),
            seconds_per_1000=seconds.get(name),
        )

    scorers = [report_on(name, sets) for name, sets in scored.items()]
    validation = {name: _mean(accuracy(scores, Split.VALIDATION) for scores in scored[name].values()) for name in members}
    single = max(validation, key=lambda name: validation[name])
    gains = [outcomes(scored[MERGED][name], split) - outcomes(scored[single][name], split) for name in rows]
    gain = mean_of_means(gains, confidence=confidence)
    return RewardReport(
        split=str(split),
        confidence=confidence,
        sets={
            name: SetReport(kind=data.kind, dropped=data.dropped, **{str(split): len(data.of(split)) for split in Split})
            for name, data in lab.sets.items()
        },
        scorers=scorers,
        single=single,
        gain=gain,
        sentence=_sentence(scorers, single, gain, sum(map(len, gains)), merged_of=len(merged.facts.weights)),
        disagreement={
            a: {b: _mean(measures.disagreement(scored[a][name], scored[b][name], split) for name in rows) for b in members}
            for a in members
        },
        recipe=(workspace.locate(merged) / RECIPE).read_text(encoding="utf-8"),
    )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _sentence(scorers: Sequence[ScorerReport], single: str, gain: Estimate, rows: int, *, merged_of: int) -> str:
    """Whether the merge is worth using, in words."""
    named = {scorer.name: scorer for scorer in scorers}
    merged, best = named[MERGED], max((named[name] for name in ENSEMBLES), key=lambda scorer: scorer.average)
    figures = f"{100 * gain.value:+.1f} points ({100 * gain.low:+.1f} to {100 * gain.high:+.1f}) on average"
    if merged_of == 1:
        worth = f"{single} selects alone: no merge that was tried beat it on the validation splits"
    elif gain.low > 0:
        worth = f"merged beats the best single member, {single}, by {figures}: it is worth using"
    elif gain.high < 0:
        worth = f"merged is worse than the best single member, {single}, by {figures}: use {single} alone"
    else:
        worth = f"merged and the best single member, {single}, cannot be told apart on {rows:,} rows: {figures}"
    most = f"most on {merged.lost_on}, {100 * (merged.lost or 0):.1f} points of its specialist"
    lost = f"it loses {most if merged.lost and merged.lost > 0 else 'nothing against any specialist'}"
    ratio = (best.seconds_per_1000 or 0) / (merged.seconds_per_1000 or 1)
    others = [lost, f"the ensemble ({best.name}) has {_apart(best, merged)} at {ratio:.1f} times the time"]
    if JOINT in named:
        others.append(f"the joint training they started from has {_apart(named[JOINT], merged)}")
    if named[LENGTH].average >= merged.average:
        others.append(f"length alone has {_apart(named[LENGTH], merged)}: do not use it")
    return "; ".join([worth, *others])


def _apart(scorer: ScorerReport, other: ScorerReport) -> str:
    points = 100 * (scorer.average - other.average)
    return f"{abs(points):.1f} points {'more' if points >= 0 else 'less'}"
