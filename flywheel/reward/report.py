"""The report on a reward model: members, merge, ensembles and the length baseline on every set."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

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
    lost: float
    """Accuracy lost against the specialist, on the set where most is lost."""
    lost_on: str
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
    texts = sum(len(row.answers) for splits in rows.values() for split_rows in splits.values() for row in split_rows)
    models = {**members, **({JOINT: lab.start()} if config.reward.joint.epochs else {}), MERGED: merged}
    scored: dict[str, dict[str, SetScores]] = {}
    seconds: dict[str, float] = {}
    for name, model in models.items():
        scorer, started = load_scorer(workspace.locate(model), config), time.perf_counter()
        scored[name] = score_sets(scorer, rows)
        seconds[name] = 1000 * (time.perf_counter() - started) / texts
    for how in ENSEMBLES:
        scored[how] = measures.ensemble([scored[name] for name in members], how=how)
        seconds[how] = sum(seconds[name] for name in members)
    scored[LENGTH] = measures.by_length(rows)
    lengths = score_sets(Length(), rows)
    right = {name: {key: outcomes(scores, split) for key, scores in sets.items()} for name, sets in scored.items()}

    def report_on(name: str) -> ScorerReport:
        accuracies = {key: wilson(values, confidence=confidence) for key, values in right[name].items()}
        lost = {key: float(right[key][key].mean()) - estimate.value for key, estimate in accuracies.items()}
        lost_on = max(lost, key=lambda key: lost[key])
        pairs = [(scored[name][key].scores[split], lengths[key].scores[split]) for key in rows]
        return ScorerReport(
            name=name, accuracy=accuracies, average=fmean(estimate.value for estimate in accuracies.values()),
            lost=lost[lost_on], lost_on=lost_on, length_correlation=fmean(measures.rank_correlation(*pair) for pair in pairs),
            seconds_per_1000=seconds.get(name),
        )  # fmt: skip

    scorers = [report_on(name) for name in scored]
    validation = {name: fmean(accuracy(scores, Split.VALIDATION) for scores in scored[name].values()) for name in members}
    single = max(validation, key=lambda name: validation[name])
    gains = [right[MERGED][key] - right[single][key] for key in rows]
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
        disagreement={a: {b: fmean((right[a][key] != right[b][key]).mean() for key in rows) for b in members} for a in members},
        recipe=(workspace.locate(merged) / RECIPE).read_text(encoding="utf-8"),
    )


def _sentence(scorers: Sequence[ScorerReport], single: str, gain: Estimate, rows: int, *, merged_of: int) -> str:
    """Whether the merge is worth using, in words."""
    named = {scorer.name: scorer for scorer in scorers}
    merged, best = named[MERGED], max((named[name] for name in ENSEMBLES), key=lambda scorer: scorer.average)
    figures = f"{100 * gain.value:+.1f} points ({100 * gain.low:+.1f} to {100 * gain.high:+.1f}) on average"
    if merged_of == 1:
        parts = [f"{single} selects alone: no merge that was tried beat it on the validation splits"]
    elif gain.low > 0:
        parts = [f"use the merge: it beats the best single member ({single}) by {figures}"]
    elif gain.high < 0:
        parts = [f"use {single}, the best single member, alone: the merge differs by {figures}"]
    else:
        parts = [f"no clear difference between the merge and the best single member ({single}) on {rows:,} rows: {figures}"]
    parts.append(f"largest loss against a specialist: {max(0, 100 * merged.lost):.1f} points on {merged.lost_on}")
    ratio = (best.seconds_per_1000 or 0) / (merged.seconds_per_1000 or 1)
    parts.append(f"the {best.name} ensemble scores {_apart(best, merged)} and takes {ratio:.1f} times as long")
    if JOINT in named:
        parts.append(f"joint training alone scores {_apart(named[JOINT], merged)}")
    if named[LENGTH].average >= merged.average:
        parts.append(f"length alone scores {_apart(named[LENGTH], merged)}: do not use this reward model")
    return "; ".join(parts)


def _apart(scorer: ScorerReport, other: ScorerReport) -> str:
    points = 100 * (scorer.average - other.average)
    return f"{abs(points):.1f} points {'higher' if points >= 0 else 'lower'}"
