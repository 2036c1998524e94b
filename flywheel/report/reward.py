"""The results of the reward commands as text: members, merges, searches, self-tests, and the report on a reward model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import yaml

from flywheel.report.tables import counts, print_json, print_line, print_rows

if TYPE_CHECKING:
    from flywheel.records import Model, Sliced
    from flywheel.reward.check import Finding
    from flywheel.reward.report import RewardReport
    from flywheel.reward.search import Search

SHOWN_TRIALS = 5


def print_models(models: Sequence[Model], *, as_json: bool) -> None:
    """Held-out accuracies of members, and of their merge where it is the last; dropped rows, and how the merge was chosen."""
    if as_json:
        print_json(
            [{"name": model.name, "model_id": model.model_id, "path": model.path} | asdict(model.facts) for model in models]
        )
        return
    sets = list(models[-1].facts.accuracy)
    accuracies = [(model.name, model.facts.accuracy) for model in models]
    rows = [(name, *map(accuracy.get, sets), fmean(accuracy.values())) for name, accuracy in accuracies]
    print_rows(("model", *sets, "average"), rows)
    for model in models:
        if model.facts.rows:
            dropped = f"; dropped {counts(model.facts.dropped)}" if model.facts.dropped else ""
            print_line(f"{model.name}: trained on {model.facts.rows:,} rows{dropped}")
    if search := models[-1].facts.search:
        beats, used = ("beats", "the merge") if search.merged else ("does not beat", f"{search.single} alone")
        print_line(
            f"the best of {search.trials} merges {beats} {search.single} alone on the validation splits "
            f"({search.best.accuracy:.3f} against {search.single_accuracy:.3f}); the reward model is {used}"
        )


def print_sliced(sliced: Sliced, folder: Path, *, as_json: bool) -> None:
    """The layers and parameters that slicing kept."""
    if as_json:
        print_json({"folder": folder} | asdict(sliced))
        return
    print_line(
        f"{folder}: {sliced.layers} of {sliced.layers_before} layers, {sliced.parameters:,} of {sliced.parameters_before:,} "
        "parameters, one head"
    )


def print_search(search: Search, *, as_json: bool) -> None:
    """The best merges of a search, the best single member, and the config that uses the best merge."""
    result, plan = search.result, search.plan
    if as_json:
        trials = [asdict(trial) for trial in search.trials]
        print_json(asdict(result) | {"weights": plan.weights, "merge": plan.merge.model_dump(), "tried": trials})
        return
    sets = list(result.best.accuracies)
    rows = [
        (
            trial.method, trial.density, ", ".join(f"{name} {weight:g}" for name, weight in trial.weights.items()),
            trial.retained, *(trial.accuracies[name] for name in sets), trial.accuracy,
        )
        for trial in search.trials[:SHOWN_TRIALS]
    ]  # fmt: skip
    print_rows(("merge", "density", "weights", "lowest share kept", *sets, "average"), rows)
    figures = f"({result.best.accuracy:.3f} against {result.single_accuracy:.3f} on average, on the validation splits)"
    if not result.merged:
        print_line(f"no merge beats the best single member, {result.single} {figures}: use it alone")
        return
    print_line(f"the best merge beats the best single member, {result.single} {figures}; to use it, set in the config:")
    members = {name: {"weight": weight} for name, weight in plan.weights.items()}
    merge = plan.merge.model_dump(include={"method", "density", "normalize"})
    print_line(yaml.safe_dump({"reward": {"members": members, "merge": merge}}, sort_keys=False).rstrip())


def print_recipe(recipe: str, folder: Path, *, as_json: bool) -> None:
    """mergekit's YAML of a merge."""
    print_json({"folder": folder, "recipe": recipe}) if as_json else print_line(recipe.rstrip())


def print_checks(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Each check, and what a failure means."""
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return
    rows = [
        ("ok" if finding.ok else "!!", finding.name, finding.found, "" if finding.ok else finding.meaning)
        for finding in findings
    ]
    print_rows(("", "check", "result", "meaning"), rows)


def print_pairs(pairs: Mapping[str, Any], to: Path, *, as_json: bool) -> None:
    """What `flywheel reward pairs` wrote."""
    if as_json:
        print_json({"file": to, **pairs})
        return
    dropped = f"; dropped {counts(pairs['dropped'])}" if pairs["dropped"] else ""
    print_line(
        f"{to}: {pairs['pairs']:,} pairs from {pairs['thumbs']:,} thumbs; {pairs['paired']:,} of {pairs['groups']:,} groups "
        f"have both liked and disliked outputs{dropped}"
    )


def print_reward_report(report: RewardReport, *, as_json: bool) -> None:
    """The verdict on the reward model, the tables, and mergekit's YAML of the merge."""
    if as_json:
        print_json(asdict(report))
        return
    sets, shares, scorers = list(report.sets), report.disagreement, report.scorers
    print_line(report.sentence)
    print_line()
    accuracies = [
        (
            scorer.name, *(f"{part.value:.3f} ({part.low:.3f} to {part.high:.3f})" for part in scorer.accuracy.values()),
            scorer.average, f"{-100 * scorer.lost:+.1f} points on {scorer.lost_on}",
        )
        for scorer in scorers
    ]  # fmt: skip
    print_rows((f"{report.split} accuracy", *sets, "average", "largest drop"), accuracies)
    print_line()
    measures = [(scorer.name, scorer.length_correlation, scorer.seconds_per_1000) for scorer in scorers]
    print_rows(("scorer", "length correlation", "s per 1,000 texts"), measures)
    print_line()
    rows = [(name, *(None if name == other else shares[name][other] for other in shares)) for name in shares]
    print_rows(("disagreement", *shares), rows)
    print_line()
    sizes = [
        (name, rows.kind, rows.train, rows.validation, rows.test, counts(rows.dropped) or "none")
        for name, rows in report.sets.items()
    ]
    print_rows(("set", "kind", "train", "validation", "test", "dropped"), sizes)
    print_line()
    print_line(report.recipe.rstrip())
