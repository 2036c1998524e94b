"""The report on a reward model: is the merge worth using, and what is it blind to.

Members, merge, ensembles and the length baseline on every set, and on candidates that rounds have stored.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from flywheel.config import Config
from flywheel.core.progress import Progress
from flywheel.core.statistics import Estimate, mean_of_means, wilson
from flywheel.records import FinishReason, Judge
from flywheel.reward.build import Lab
from flywheel.reward.data import PreferenceSet, Row
from flywheel.reward.measures import (
    Array,
    Scored,
    accuracy,
    by_length,
    calibration_error,
    disagreement,
    ensemble,
    outcomes,
    rank_correlation,
    regret,
    rows_of,
    score_set,
)
from flywheel.reward.model import load_scorer
from flywheel.reward.sources import Split
from flywheel.reward.text import Answer, Scorer
from flywheel.workspace import Workspace

CANDIDATE_TASKS = 500
"""Stored tasks whose candidates are scored by everybody."""
LENGTH = "length"
JOINT = "joint"
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
    """Points lost against the specialist on the set where most is lost; None for the length baseline."""
    lost_on: str | None
    length_correlation: float
    """Spearman's correlation of score and characters, on average over the sets."""
    calibration_error: float
    regret: Estimate | None
    """Judge points lost by its picks among stored candidates, against the best candidate of each task."""
    seconds_per_1000: float | None
    """Time to score a thousand texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthReport:
    """What a base of so many layers gave."""

    layers: int
    parameters: int
    accuracy: Mapping[str, float]
    average: float
    seconds_per_1000: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardReport:
    """All of it."""

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
    regret_by_chance: float | None
    candidates: str | None
    """The round whose candidates were judged."""
    recipe: str
    """mergekit's YAML of the merge."""
    depths: Sequence[DepthReport]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidates:
    """Stored candidates of some tasks, with what the judge says of each."""

    round: str
    answers: Sequence[Answer]
    worth: Array
    """Shape (tasks, n)."""
    finished: Array


def evaluate_reward_model(
    config: Config, workspace: Workspace, progress: Progress, judge: Judge, *, split: Split, depths: Sequence[int] = ()
) -> RewardReport:
    """Measure the configured reward model, built if missing, beside everything that could replace it.

    ``judge`` is asked about stored candidates, to see what the picks of each scorer lose.
    """
    lab = Lab(config, workspace, progress)
    members = lab.members()
    merged = lab.reward_model()
    splits = {Split.VALIDATION, split}
    rows = {name: rows_of(one, *sorted(splits)) for name, one in lab.sets.items()}
    candidates = _stored_candidates(workspace, judge)
    joint = {JOINT: lab.start()} if config.reward.joint.epochs else {}
    everything = {**members, **joint, "merged": merged}
    loaded = {name: load_scorer(workspace.locate(model), config) for name, model in everything.items()}
    timed = {name: _timed(scorer, rows) for name, scorer in loaded.items()}
    scored: dict[str, dict[str, Scored]] = {name: found for name, (found, _) in timed.items()}
    seconds: dict[str, float | None] = {name: spent for name, (_, spent) in timed.items()}
    everybody = [scored[name] for name in members]
    for how in ENSEMBLES:
        scored[how] = ensemble(everybody, how=how)
        seconds[how] = sum(timed[name][1] for name in members)
    scored[LENGTH] = by_length(rows)
    regrets = _regrets(loaded, list(members), candidates) if candidates else {}
    confidence = config.evaluation.confidence
    own = {name: accuracy(scored[name][name], split) for name in members}
    scorers = [
        _report(
            name, found, own, rows, split,
            regret=regrets.get(name), seconds=seconds.get(name), confidence=confidence,
        )
        for name, found in scored.items()
    ]  # fmt: skip
    validation = {name: np.mean([accuracy(one, Split.VALIDATION) for one in scored[name].values()]) for name in members}
    single = max(validation, key=lambda name: float(validation[name]))
    gain = mean_of_means(
        [outcomes(scored["merged"][name], split) - outcomes(scored[single][name], split) for name in rows],
        confidence=confidence,
    )
    return RewardReport(
        split=str(split),
        confidence=confidence,
        sets={name: _set_report(one) for name, one in lab.sets.items()},
        scorers=scorers,
        single=single,
        gain=gain,
        sentence=_sentence(
            scorers, single, gain, sum(len(one[split]) for one in rows.values()), merged_of=len(merged.facts.weights)
        ),
        disagreement={
            a: {b: float(np.mean([disagreement(scored[a][name], scored[b][name], split) for name in rows])) for b in members}
            for a in members
        },
        regret_by_chance=float((candidates.worth.max(axis=1) - candidates.worth.mean(axis=1)).mean()) if candidates else None,
        candidates=candidates.round if candidates else None,
        recipe=(workspace.locate(merged) / "mergekit.yaml").read_text(encoding="utf-8"),
        depths=[_depth(config, workspace, progress, layers, rows, split) for layers in depths],
    )


def _timed(scorer: Scorer, rows: Mapping[str, Mapping[Split, Sequence[Row]]]) -> tuple[dict[str, Scored], float]:
    """What a scorer gives the rows of every set, and its seconds for a thousand texts."""
    texts = sum(len(row.answers) for one in rows.values() for of_split in one.values() for row in of_split)
    started = time.perf_counter()
    found = {name: score_set(scorer, one) for name, one in rows.items()}
    return found, 1000 * (time.perf_counter() - started) / texts


def _report(
    name: str,
    found: Mapping[str, Scored],
    own: Mapping[str, float],
    rows: Mapping[str, Mapping[Split, Sequence[Row]]],
    split: Split,
    *,
    regret: Estimate | None,
    seconds: float | None,
    confidence: float,
) -> ScorerReport:
    accuracies = {one: wilson(outcomes(scored, split), confidence=confidence) for one, scored in found.items()}
    lost = {one: own[one] - estimate.value for one, estimate in accuracies.items()}
    most = max(lost, key=lambda one: lost[one])
    lengths = {
        one: np.array([[float(len(answer.output)) for answer in row.answers] for row in of[split]]) for one, of in rows.items()
    }
    return ScorerReport(
        name=name,
        accuracy=accuracies,
        average=float(np.mean([estimate.value for estimate in accuracies.values()])),
        lost=None if name == LENGTH else lost[most],
        lost_on=None if name == LENGTH else most,
        length_correlation=float(
            np.mean([rank_correlation(scored.scores[split].ravel(), lengths[one].ravel()) for one, scored in found.items()])
        ),
        calibration_error=float(np.mean([calibration_error(scored, split) for scored in found.values()])),
        regret=regret,
        seconds_per_1000=seconds,
    )


def _set_report(one: PreferenceSet) -> SetReport:
    return SetReport(
        kind=one.kind, train=len(one.of(Split.TRAIN)), validation=len(one.of(Split.VALIDATION)), test=len(one.of(Split.TEST)),
        dropped=one.dropped,
    )  # fmt: skip


def _sentence(scorers: Sequence[ScorerReport], single: str, gain: Estimate, rows: int, *, merged_of: int) -> str:
    """Whether the merge is worth using, in words."""
    of = {one.name: one for one in scorers}
    merged, best = of["merged"], max((of[name] for name in ENSEMBLES), key=lambda one: one.average)
    figures = f"{100 * gain.value:+.1f} points ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
    if merged_of == 1:
        worth = f"{single} selects alone: no merge that was tried beat it on the validation splits"
    elif gain.low > 0:
        worth = f"merged beats the best single member, {single}, by {figures} on average: it is worth using"
    elif gain.high < 0:
        worth = f"merged is worse than the best single member, {single}, by {figures} on average: use {single} alone"
    else:
        worth = f"merged and the best single member, {single}, cannot be told apart on {rows:,} rows: {figures} on average"
    most = f"most on {merged.lost_on}, {100 * (merged.lost or 0):.1f} points of its specialist"
    lost = f"it loses {most if merged.lost and merged.lost > 0 else 'nothing against any specialist'}"
    ratio = (best.seconds_per_1000 or 0) / (merged.seconds_per_1000 or 1)
    others = [lost, f"the ensemble ({best.name}) has {_apart(best, merged)} at {ratio:.1f} times the time"]
    if JOINT in of:
        others.append(f"the joint training they started from has {_apart(of[JOINT], merged)}")
    if of[LENGTH].average >= merged.average:
        others.append(f"length alone has {_apart(of[LENGTH], merged)}, so it is of no use as it is")
    return "; ".join([worth, *others])


def _apart(one: ScorerReport, other: ScorerReport) -> str:
    points = 100 * (one.average - other.average)
    return f"{abs(points):.1f} points {'more' if points >= 0 else 'less'}"


def _stored_candidates(workspace: Workspace, judge: Judge) -> _Candidates | None:
    """Candidates of the latest round that has some, judged; None where there is no round or the judge cannot tell."""
    done = [one.round for one in workspace.store.rounds() if one.number > 0]
    for name in reversed(done):
        attempts = next(iter(workspace.store.spans(name, CANDIDATE_TASKS)), range(0))
        of_task, tasks = workspace.store.candidates(name, attempts), workspace.store.tasks_of(name, attempts)
        groups = [(task, of_task[task.task_id]) for task in tasks if task.task_id in of_task]
        most = max((len(found) for _, found in groups), default=0)
        groups = [(task, found) for task, found in groups if len(found) == most]
        if not groups:
            continue
        judged = judge([(task, one.output) for task, of in groups for one in of])
        worth = np.array([np.nan if one is None else one for one in judged]).reshape(len(groups), most)
        finished = np.array([[one.finish_reason == FinishReason.STOP for one in found] for _, found in groups])
        known = ~np.isnan(worth).any(axis=1) & finished.any(axis=1)
        if not known.any():
            return None
        answers = [
            Answer(task=task, output=one.output, finished=one.finish_reason == FinishReason.STOP)
            for (task, found), keep in zip(groups, known, strict=True)
            for one in found
            if keep
        ]
        return _Candidates(round=name, answers=answers, worth=worth[known], finished=finished[known])
    return None


def _regrets(scorers: Mapping[str, Scorer], members: Sequence[str], candidates: _Candidates) -> dict[str, Estimate]:
    """Of each scorer, ensemble and the length, what its picks lose."""
    shape = candidates.worth.shape
    scores = {name: np.array(scorer.score(candidates.answers)).reshape(shape) for name, scorer in scorers.items()}
    scaled = [(scores[name] - scores[name].mean()) / (scores[name].std() or 1.0) for name in members]
    scores |= {"mean": np.mean(scaled, axis=0), "min": np.min(scaled, axis=0)}
    scores[LENGTH] = np.array([float(len(one.output)) for one in candidates.answers]).reshape(shape)
    found = {}
    for name, given in scores.items():
        allowed = np.where(candidates.finished, given, -np.inf)
        found[name] = mean_of_means([regret(allowed, candidates.worth)], confidence=0.95)
    return found


def _depth(
    config: Config,
    workspace: Workspace,
    progress: Progress,
    layers: int,
    rows: Mapping[str, Mapping[Split, Sequence[Row]]],
    split: Split,
) -> DepthReport:
    """The whole recipe on a base of another depth."""
    reward = config.reward.model_copy(update={"layers": layers})
    shallow = Lab(config.model_copy(update={"reward": reward}), workspace, progress, label=f"{layers}-layers")
    merged, sliced = shallow.reward_model(), shallow.base().facts.sliced
    found, seconds = _timed(load_scorer(workspace.locate(merged), config), rows)
    accuracies = {name: accuracy(one, split) for name, one in found.items()}
    return DepthReport(
        layers=layers, parameters=sliced.parameters if sliced else 0, accuracy=accuracies,
        average=float(np.mean(list(accuracies.values()))), seconds_per_1000=seconds,
    )  # fmt: skip
