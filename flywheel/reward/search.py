"""Search for the merge: many weights, densities and methods, the promising ones on more rows.

Successive halving (Karnin, Koren & Somekh 2013; Jamieson & Talwalkar 2016): all merges are tried on few
validation rows, the better third on three times as many, until the last few have seen them all. The test
splits are not read.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flywheel.config import MergeConfig, RewardConfig
from flywheel.core.progress import Progress
from flywheel.core.seeds import generator
from flywheel.errors import ModelError
from flywheel.records import MergeTrial, SearchResult
from flywheel.reward.data import Row
from flywheel.reward.measures import Scored, accuracy, score_set
from flywheel.reward.mergekit import WITH_BASE, merge_models
from flywheel.reward.sources import Split
from flywheel.reward.text import Scorer

KEEP = 3
"""One of so many merges is tried on so many times the rows."""
Rows = Mapping[str, Mapping[Split, Sequence[Row]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which members are merged, and how."""

    weights: Mapping[str, float]
    merge: MergeConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search came to."""

    plan: Plan
    """The best merge where it beats the best single member on the average of the validation splits, else that member alone."""
    best: MergeTrial
    single: str
    """The best single member."""
    single_accuracy: float
    trials: tuple[MergeTrial, ...]

    @property
    def merged(self) -> bool:
        """Whether the best merge beats the best single member."""
        return self.best.accuracy > self.single_accuracy

    def summary(self) -> SearchResult:
        """For the record of the model."""
        return SearchResult(
            merged=self.merged, best=self.best, single=self.single, single_accuracy=self.single_accuracy,
            trials=len({trial.trial for trial in self.trials}),
        )  # fmt: skip


def search_merge(
    base: Path,
    members: Mapping[str, Path],
    rows: Rows,
    load: Callable[[Path], Scorer],
    reward: RewardConfig,
    *,
    progress: Progress,
    record: Callable[[str, Sequence[MergeTrial]], None],
    key: str,
) -> Found:
    """Try ``reward.search.trials`` merges and pick the one that keeps most of its worst member, then is best on average.

    ``rows`` are the validation rows by set; each member's own set bears its name. ``record`` is called with ``key``
    and the trials.
    """
    specialists = {name: _scored(load(folder), rows) for name, folder in members.items()}
    plans = draw_plans(reward, generator(reward.seed, "search"))
    most = max(len(one[Split.VALIDATION]) for one in rows.values())
    trials: list[MergeTrial] = []
    alive = list(enumerate(plans))
    with progress.work("search", total=_evaluations(len(plans), reward.search.halvings), unit="merges") as counter:
        for halving in range(reward.search.halvings + 1):
            seen = max(1, round(most / KEEP ** (reward.search.halvings - halving)))
            some = {name: {split: found[:seen] for split, found in one.items()} for name, one in rows.items()}
            tried = []
            for trial, plan in alive:
                scored = _try(base, members, plan, some, load, reward.seed)
                if scored is not None:
                    tried.append(_judge(trial, halving, seen, plan, scored, specialists))
                counter.to(len(trials) + len(tried))
            if not tried:
                raise ModelError("mergekit could run none of the merges of the search; run one with `flywheel reward build`")
            trials += tried
            ranked = sorted(tried, key=lambda one: (-one.retained, -one.accuracy, one.trial))
            kept = {one.trial for one in ranked[: max(1, len(plans) // KEEP ** (halving + 1))]}
            alive = [(trial, plan) for trial, plan in alive if trial in kept]
    record(key, trials)
    best = ranked[0]
    means = {
        name: sum(accuracy(one, Split.VALIDATION) for one in found.values()) / len(found) for name, found in specialists.items()
    }
    single = max(means, key=lambda name: means[name])
    plan = (
        plans[best.trial] if best.accuracy > means[single] else Plan(weights={single: 1.0}, merge=MergeConfig(method="linear"))
    )
    return Found(plan=plan, best=best, single=single, single_accuracy=means[single], trials=tuple(trials))


def _evaluations(plans: int, halvings: int) -> int:
    return sum(max(1, plans // KEEP**halving) for halving in range(halvings + 1))


def draw_plans(reward: RewardConfig, rng: random.Random) -> list[Plan]:
    """The configured merge, all members alike, and merges drawn at random; always the same for the same seed."""
    names, search = list(reward.members), reward.search
    methods = [method for method in search.methods if method != "slerp" or len(names) == 2]
    configured = Plan(weights={name: member.weight for name, member in reward.members.items()}, merge=reward.merge)
    alike = Plan(weights=dict.fromkeys(names, 1.0), merge=MergeConfig(method="linear", dtype=reward.merge.dtype))
    plans = [configured, alike] if configured != alike else [configured]
    while len(plans) < search.trials:
        method = rng.choice(methods)
        # Weights of a flat Dirichlet distribution, for task vectors with a sum of their own.
        shares = [rng.expovariate(1.0) for _ in names]
        total = 1.0 if method not in WITH_BASE else rng.uniform(0.7, 2.0)
        weights = {name: round(share / sum(shares) * total, 3) or 0.001 for name, share in zip(names, shares, strict=True)}
        density = round(rng.uniform(0.3, 1.0), 2) if method in WITH_BASE else 1.0
        if method == "della":
            density = min(density, 0.9)
        plans.append(
            Plan(
                weights=weights,
                merge=MergeConfig(method=method, density=density, normalize=method == "linear", dtype=reward.merge.dtype),
            )
        )
    return plans[: search.trials]


def _try(
    base: Path, members: Mapping[str, Path], plan: Plan, rows: Rows, load: Callable[[Path], Scorer], seed: int
) -> dict[str, Scored] | None:
    """What the merge of a plan makes of the rows; None where mergekit cannot run it."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            merge_models(
                base, {members[name]: weight for name, weight in plan.weights.items()}, plan.merge, Path(folder), seed=seed
            )
        except ModelError:
            return None
        return _scored(load(Path(folder)), rows)


def _scored(scorer: Scorer, rows: Rows) -> dict[str, Scored]:
    return {name: score_set(scorer, one) for name, one in rows.items()}


def _judge(
    trial: int,
    halving: int,
    rows: int,
    plan: Plan,
    scored: Mapping[str, Scored],
    specialists: Mapping[str, Mapping[str, Scored]],
) -> MergeTrial:
    accuracies = {name: accuracy(one, Split.VALIDATION) for name, one in scored.items()}
    own = {name: accuracy(specialists[name][name].first(rows), Split.VALIDATION) for name in scored}
    return MergeTrial(
        trial=trial, halving=halving, rows=rows, method=plan.merge.method, density=plan.merge.density,
        normalize=plan.merge.normalize, weights=dict(plan.weights),
        retained=min(accuracies[name] / own[name] if own[name] else 1.0 for name in accuracies),
        accuracy=sum(accuracies.values()) / len(accuracies), accuracies=accuracies,
    )  # fmt: skip
