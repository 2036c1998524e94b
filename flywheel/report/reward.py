"""The results of the reward commands as text: members, merges, searches, self-tests, and the report on a reward model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.report.tables import counts, print_json, print_line, print_rows, print_table
from flywheel.store.reading import Table

if TYPE_CHECKING:
    from flywheel.core.statistics import Estimate
    from flywheel.records import Model, Sliced
    from flywheel.reward.check import Finding
    from flywheel.reward.report import RewardReport, ScorerReport
    from flywheel.reward.search import Search

SHOWN_TRIALS = 5


def print_built(members: Sequence[Model], merged: Model, *, as_json: bool) -> None:
    """Held-out accuracies of the members and the merge, dropped rows, and how the merge was chosen."""
    table = _accuracy_table([*members, merged])
    if as_json:
        print_json(table.as_dicts())
        return
    print_table(table)
    for line in filter(None, map(_dropped, members)):
        print_line(line)
    if search := merged.facts.search:
        beats, used = ("beats", "the merge") if search.merged else ("does not beat", f"{search.single} alone")
        print_line(
            f"the best of {search.trials} merges {beats} {search.single} alone on the validation splits "
            f"({search.best.accuracy:.3f} against {search.single_accuracy:.3f}); the reward model is {used}"
        )


def print_members(members: Sequence[Model], *, as_json: bool) -> None:
    """Members that were trained."""
    if as_json:
        print_json([_member_row(model) for model in members])
        return
    print_table(_accuracy_table(members))
    for model in members:
        print_line(_dropped(model) or f"{model.name}: trained on all {model.facts.rows:,} rows")


def _member_row(model: Model) -> dict[str, Any]:
    facts = {name: getattr(model.facts, name) for name in ("rows", "dropped", "loss", "seconds", "accuracy")}
    return {"name": model.name, "model_id": model.model_id, "path": model.path} | facts


def _accuracy_table(models: Sequence[Model]) -> Table:
    """Held-out accuracy of each model on every set, with the average."""
    sets = list(models[-1].facts.accuracy)
    rows = []
    for model in models:
        accuracy = model.facts.accuracy
        rows.append((model.name, *map(accuracy.get, sets), sum(accuracy.values()) / len(accuracy)))
    return Table(columns=("model", *sets, "average"), rows=rows)


def _dropped(model: Model) -> str:
    reasons = counts(model.facts.dropped)
    return f"{model.name}: trained on {model.facts.rows:,} rows; dropped {reasons}" if reasons else ""


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
    last = max(trial.halving for trial in search.trials)
    finalists = [trial for trial in search.trials if trial.halving == last]
    finalists.sort(key=lambda trial: (-trial.retained, -trial.accuracy))
    sets = list(result.best.accuracies)
    rows = [
        (
            trial.method, trial.density, ", ".join(f"{name} {weight:g}" for name, weight in trial.weights.items()),
            trial.retained, *(trial.accuracies[name] for name in sets), trial.accuracy,
        )
        for trial in finalists[:SHOWN_TRIALS]
    ]  # fmt: skip
    print_rows(("merge", "density", "weights", "worst kept", *sets, "average"), rows)
    figures = f"({result.best.accuracy:.3f} against {result.single_accuracy:.3f} on average, on the validation splits)"
    if not result.merged:
        print_line(f"no merge beats {result.single} alone {figures}; use that member only, or train the others better")
        return
    print_line(f"the best merge beats the best single member, {result.single} {figures}; to use it, set in the config:")
    print_line("reward:")
    for name, weight in plan.weights.items():
        print_line(f"  members.{name}.weight: {weight:g}")
    merge = plan.merge.model_dump(include={"method", "density", "normalize"})
    print_line(f"  merge: {json.dumps(merge)}")
    weights = " ".join(f"--set reward.members.{name}.weight={weight:g}" for name, weight in plan.weights.items())
    options = " ".join(f"--set reward.merge.{key}={str(value).lower()}" for key, value in merge.items())
    print_line(f"or for one command: {weights} {options}")


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
        (scorer.name, *(_interval(scorer.accuracy[name]) for name in sets), scorer.average, _loss(scorer)) for scorer in scorers
    ]
    print_rows((f"{report.split} accuracy", *sets, "average", "worst loss"), accuracies)
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


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _loss(scorer: ScorerReport) -> str:
    return "" if scorer.lost is None else f"{-100 * scorer.lost:+.1f} points on {scorer.lost_on}"
