"""The results of the reward commands as text: members, merges, searches, self-tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.report.tables import counts, print_json, print_line, print_table
from flywheel.store.reading import Table

if TYPE_CHECKING:
    from flywheel.records import Model, Sliced
    from flywheel.reward.check import Finding
    from flywheel.reward.search import Search

SHOWN_TRIALS = 5


def print_built(members: Sequence[Model], merged: Model, *, as_json: bool) -> None:
    """Held-out accuracies of the members and the merge, dropped rows, and how the merge was chosen."""
    table = _accuracy_table([*members, merged])
    if as_json:
        print_json(table.as_dicts())
        return
    print_table(table)
    for line in (_dropped(model) for model in members):
        if line:
            print_line(line)
    if search := merged.facts.search:
        beats = "beats" if search.merged else "does not beat"
        used = "the merge" if search.merged else f"{search.single} alone"
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
    facts = model.facts
    return {
        "name": model.name, "model_id": model.model_id, "path": model.path, "rows": facts.rows, "dropped": dict(facts.dropped),
        "loss": facts.loss, "seconds": facts.seconds, "accuracy": dict(facts.accuracy),
    }  # fmt: skip


def _accuracy_table(models: Sequence[Model]) -> Table:
    """Held-out accuracy of each model on every set, with the average."""
    sets = list(models[-1].facts.accuracy)
    rows = []
    for model in models:
        accuracy = model.facts.accuracy
        rows.append((model.name, *(accuracy.get(name) for name in sets), sum(accuracy.values()) / len(accuracy)))
    return Table(columns=("model", *sets, "average"), rows=rows)


def _dropped(model: Model) -> str:
    reasons = counts(model.facts.dropped)
    return f"{model.name}: trained on {model.facts.rows:,} rows; dropped {reasons}" if reasons else ""


def print_sliced(sliced: Sliced, folder: Path, *, as_json: bool) -> None:
    """The layers and parameters that slicing kept."""
    if as_json:
        print_json({"folder": str(folder)} | asdict(sliced))
        return
    print_line(
        f"{folder}: {sliced.layers} of {sliced.layers_before} layers, {sliced.parameters:,} of {sliced.parameters_before:,} "
        "parameters, one head"
    )


def print_search(search: Search, *, as_json: bool) -> None:
    """The best merges of a search, the best single member, and the config that uses the best merge."""
    if as_json:
        print_json(
            asdict(search.result)
            | {
                "weights": dict(search.plan.weights),
                "merge": search.plan.merge.model_dump(),
                "tried": [asdict(trial) for trial in search.trials],
            }
        )
        return
    result = search.result
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
    print_table(Table(columns=("merge", "density", "weights", "worst kept", *sets, "average"), rows=rows))
    figures = f"({result.best.accuracy:.3f} against {result.single_accuracy:.3f} on average, on the validation splits)"
    if not result.merged:
        print_line(f"no merge beats {result.single} alone {figures}; use that member only, or train the others better")
        return
    print_line(f"the best merge beats the best single member, {result.single} {figures}; to use it, set in the config:")
    print_line("reward:")
    for name, weight in search.plan.weights.items():
        print_line(f"  members.{name}.weight: {weight:g}")
    merge = {key: value for key, value in search.plan.merge.model_dump().items() if key in ("method", "density", "normalize")}
    print_line(f"  merge: {json.dumps(merge)}")
    weights = " ".join(f"--set reward.members.{name}.weight={weight:g}" for name, weight in search.plan.weights.items())
    options = " ".join(f"--set reward.merge.{key}={str(value).lower()}" for key, value in merge.items())
    print_line(f"or for one command: {weights} {options}")


def print_recipe(recipe: str, folder: Path, *, as_json: bool) -> None:
    """mergekit's YAML of a merge."""
    print_json({"folder": str(folder), "recipe": recipe}) if as_json else print_line(recipe.rstrip())


def print_checks(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Each check, and what a failure means."""
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return
    rows = [
        ("ok" if finding.ok else "!!", finding.name, finding.found, "" if finding.ok else finding.meaning)
        for finding in findings
    ]
    print_table(Table(columns=("", "check", "result", "meaning"), rows=rows))


def print_pairs_made(pairs: Mapping[str, Any], to: Path, *, as_json: bool) -> None:
    """What `flywheel reward pairs` wrote."""
    if as_json:
        print_json({"file": str(to)} | dict(pairs))
        return
    dropped = f"; dropped {counts(pairs['dropped'])}" if pairs["dropped"] else ""
    print_line(
        f"{to}: {pairs['pairs']:,} pairs from {pairs['thumbs']:,} thumbs; {pairs['paired']:,} of {pairs['groups']:,} groups "
        f"have both liked and disliked outputs{dropped}"
    )
