"""Random search for the merge over weights, densities and methods, on the validation splits; the test splits are not read."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from flywheel.config import MergeConfig, RewardConfig
from flywheel.core.progress import Progress
from flywheel.core.seeds import generator
from flywheel.errors import ModelError
from flywheel.records import MergeTrial, SearchResult
from flywheel.reward.measures import SetRows, SetScores, accuracy, score_sets
from flywheel.reward.merge import WITH_BASE, merge_models
from flywheel.reward.sources import Split
from flywheel.reward.text import Scorer


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which members are merged, and how."""

    weights: Mapping[str, float]
    merge: MergeConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A finished search."""

    plan: Plan
    """The best merge if it beats the best single member on the average of the validation splits, else that member alone."""
    result: SearchResult
    trials: tuple[MergeTrial, ...]
    """The merges that mergekit could run, best first."""


def search_merge(
    base: Path,
    members: Mapping[str, Path],
    rows: Mapping[str, SetRows],
    load: Callable[[Path], Scorer],
    reward: RewardConfig,
    *,
    progress: Progress,
) -> Search:
    """Try ``reward.search.trials`` merges; the best keeps most of its worst member, then is best on average.

    ``rows`` are the validation rows by set; each member's own set has its name.
    """
    plans = draw_plans(reward, generator(reward.seed, "search"))
    own = {name: _accuracies(score_sets(load(folder), rows)) for name, folder in members.items()}
    trials: list[MergeTrial] = []
    with progress.work("search", total=len(plans), unit="merges") as counter:
        for number, plan in enumerate(plans):
            if accuracies := _try(base, members, plan, rows, load, reward.seed):
                trial = MergeTrial(
                    trial=number, method=plan.merge.method, density=plan.merge.density, normalize=plan.merge.normalize,
                    weights=dict(plan.weights), accuracy=fmean(accuracies.values()), accuracies=accuracies,
                    retained=min(accuracies[name] / own[name][name] if own[name][name] else 1.0 for name in rows),
                )  # fmt: skip
                trials.append(trial)
            counter.to(number + 1)
    if not trials:
        hint = "Run `flywheel reward build --set reward.search.trials=0` to see mergekit's error."
        raise ModelError(f"all {len(plans)} merges of the search failed", hint)
    trials.sort(key=lambda trial: (-trial.retained, -trial.accuracy, trial.trial))
    best, averages = trials[0], {name: fmean(accuracies.values()) for name, accuracies in own.items()}
    single = max(averages, key=lambda name: averages[name])
    merged = best.accuracy > averages[single]
    alone = Plan(weights={single: 1.0}, merge=MergeConfig(method="linear"))
    result = SearchResult(merged=merged, best=best, single=single, single_accuracy=averages[single], trials=len(trials))
    return Search(plan=plans[best.trial] if merged else alone, result=result, trials=tuple(trials))


def draw_plans(reward: RewardConfig, rng: random.Random) -> list[Plan]:
    """The configured merge, equal weights, and merges drawn at random; always the same for the same seed."""
    names, search, dtype = list(reward.members), reward.search, reward.merge.dtype
    methods = [method for method in search.methods if method != "slerp" or len(names) == 2]
    configured = Plan(weights={name: member.weight for name, member in reward.members.items()}, merge=reward.merge)
    equal = Plan(weights=dict.fromkeys(names, 1.0), merge=MergeConfig(method="linear", dtype=dtype))
    plans = [configured, equal] if configured != equal else [configured]
    while len(plans) < search.trials:
        method = rng.choice(methods)
        # A flat Dirichlet distribution; methods that merge changes of the base draw the sum of the weights, too.
        shares = [rng.expovariate(1.0) for _ in names]
        total = 1.0 if method not in WITH_BASE else rng.uniform(0.7, 2.0)
        weights = {name: round(share / sum(shares) * total, 3) or 0.001 for name, share in zip(names, shares, strict=True)}
        density = round(rng.uniform(0.3, 1.0), 2) if method in WITH_BASE else 1.0
        if method == "della":
            density = min(density, 0.9)
        merge = MergeConfig(method=method, density=density, normalize=method == "linear", dtype=dtype)
        plans.append(Plan(weights=weights, merge=merge))
    return plans[: search.trials]


def _try(
    base: Path, members: Mapping[str, Path], plan: Plan, rows: Mapping[str, SetRows], load: Callable[[Path], Scorer], seed: int
) -> dict[str, float]:
    """The accuracy of a plan's merge on each set; empty where mergekit cannot run it."""
    weights = {members[name]: weight for name, weight in plan.weights.items()}
    with tempfile.TemporaryDirectory() as folder:
        try:
            merge_models(base, weights, plan.merge, Path(folder), seed=seed)
        except ModelError:
            return {}
        return _accuracies(score_sets(load(Path(folder)), rows))


def _accuracies(sets: Mapping[str, SetScores]) -> dict[str, float]:
    return {name: accuracy(scores, Split.VALIDATION) for name, scores in sets.items()}
