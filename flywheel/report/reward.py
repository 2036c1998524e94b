"""What the reward lab tells: members, merges, searches, self-tests, the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.report.tables import print_json, print_line, print_table
from flywheel.store.reading import Table

if TYPE_CHECKING:
    from flywheel.core.statistics import Estimate
    from flywheel.records import Model, Sliced
    from flywheel.reward.check import Finding
    from flywheel.reward.evaluate import RewardReport
    from flywheel.reward.search import Found

SHOWN_TRIALS = 5


def print_built(members: Sequence[Model], merged: Model, *, as_json: bool) -> None:
    """Held-out accuracies of the members and the merge, what was left out of the data, and how the merge was chosen."""
    table = _accuracy_table([*members, merged])
    if as_json:
        print_json(table.as_dicts())
        return
    print_table(table)
    for line in (_dropped(model) for model in members):
        if line:
            print_line(line)
    if search := merged.facts.search:
        word = "beats" if search.merged else "does not beat"
        print_line(
            f"the best of {search.trials} merges {word} {search.single} alone on the validation splits "
            f"({search.best.accuracy:.3f}, {search.single_accuracy:.3f}); "
            + ("it selects" if search.merged else f"{search.single} selects")
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
        found = model.facts.accuracy
        rows.append((model.name, *(found.get(one) for one in sets), sum(found.values()) / len(found)))
    return Table(columns=("model", *sets, "average"), rows=rows)


def _dropped(model: Model) -> str:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in model.facts.dropped.items())
    return f"{model.name}: trained on {model.facts.rows:,} rows; dropped {reasons}" if reasons else ""


def print_sliced(sliced: Sliced, folder: Path, *, as_json: bool) -> None:
    """What slicing made of a model."""
    if as_json:
        print_json({"folder": str(folder)} | asdict(sliced))
        return
    print_line(
        f"{folder}: {sliced.layers} of {sliced.layers_before} layers, {sliced.parameters:,} of {sliced.parameters_before:,} "
        f"parameters, one head, sliced by {sliced.by}"
    )
    if sliced.because:
        print_line(f"not by mergekit: {sliced.because[:200]}")


def print_search(found: Found, *, as_json: bool) -> None:
    """The best merges of a search, the best single member, and the config that takes the best."""
    if as_json:
        print_json(
            asdict(found.summary())
            | {
                "weights": dict(found.plan.weights),
                "merge": found.plan.merge.model_dump(),
                "tried": [asdict(one) for one in found.trials],
            }
        )
        return
    last = max(one.halving for one in found.trials)
    finalists = sorted((one for one in found.trials if one.halving == last), key=lambda one: (-one.retained, -one.accuracy))
    sets = list(found.best.accuracies)
    print_table(
        Table(
            columns=("merge", "density", "weights", "worst kept", *sets, "average"),
            rows=[
                (
                    one.method, one.density, ", ".join(f"{name} {weight:g}" for name, weight in one.weights.items()),
                    one.retained, *(one.accuracies[name] for name in sets), one.accuracy,
                )
                for one in finalists[:SHOWN_TRIALS]
            ],
        )
    )  # fmt: skip
    figures = f"({found.best.accuracy:.3f} against {found.single_accuracy:.3f} on average, on the validation splits)"
    if not found.merged:
        print_line(f"no merge beats {found.single} alone {figures}; keep that member only, or train the others better")
        return
    print_line(f"the best merge beats the best single member, {found.single} {figures}; to use it, write into the config:")
    print_line("reward:")
    for name, weight in found.plan.weights.items():
        print_line(f"  members.{name}.weight: {weight:g}")
    merge = {key: value for key, value in found.plan.merge.model_dump().items() if key in ("method", "density", "normalize")}
    print_line(f"  merge: {json.dumps(merge)}")
    weights = " ".join(f"--set reward.members.{name}.weight={weight:g}" for name, weight in found.plan.weights.items())
    options = " ".join(f"--set reward.merge.{key}={str(value).lower()}" for key, value in merge.items())
    print_line(f"or for one call: {weights} {options}")


def print_recipe(recipe: str, folder: Path, *, as_json: bool) -> None:
    """mergekit's YAML of a merge."""
    print_json({"folder": str(folder), "recipe": recipe}) if as_json else print_line(recipe.rstrip())


def print_checks(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Each check, and what a failure means."""
    if as_json:
        print_json([asdict(one) for one in findings])
        return
    print_table(
        Table(
            columns=("", "check", "found", "what it means"),
            rows=[("ok" if one.ok else "!!", one.name, one.found, "" if one.ok else one.meaning) for one in findings],
        )
    )


def print_pairs_made(told: Mapping[str, Any], to: Path, *, as_json: bool) -> None:
    """What `flywheel reward pairs` made."""
    if as_json:
        print_json({"file": str(to)} | dict(told))
        return
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in told["dropped"].items())
    print_line(
        f"{to}: {told['pairs']:,} pairs from {told['thumbs']:,} thumbs; {told['paired']:,} of {told['groups']:,} groups "
        f"have both likes and dislikes{f'; dropped {dropped}' if dropped else ''}"
    )


def print_reward_report(report: RewardReport, *, as_json: bool) -> None:
    """The report as tables, its sentence first."""
    if as_json:
        print_json(report.as_json())
        return
    print_line(report.sentence)
    sets = list(report.sets)
    print_line()
    print_table(
        Table(
            columns=(f"{report.split} accuracy", *sets, "average", "worst loss"),
            rows=[
                (one.name, *(_share(one.accuracy[name]) for name in sets), one.average, _lost(one.lost, one.lost_on))
                for one in report.scorers
            ],
        )
    )
    print_line()
    by = f"regret in {report.candidates}" if report.candidates else "regret"
    print_table(
        Table(
            columns=("scorer", "length correlation", "calibration error", by, "s per 1,000 texts"),
            rows=[
                (
                    one.name, one.length_correlation, one.calibration_error,
                    _share(one.regret) if one.regret else None, one.seconds_per_1000,
                )
                for one in report.scorers
            ],
        )
    )  # fmt: skip
    if report.regret_by_chance is not None:
        print_line(f"a random pick would regret {report.regret_by_chance:.3f}")
    print_line()
    names = list(report.disagreement)
    print_table(
        Table(
            columns=("disagreement", *names),
            rows=[(name, *(None if name == other else report.disagreement[name][other] for other in names)) for name in names],
        )
    )
    print_line()
    print_table(
        Table(
            columns=("set", "kind", "train", "validation", "test", "dropped"),
            rows=[
                (
                    name, one.kind, one.train, one.validation, one.test,
                    ", ".join(f"{count:,} {reason}" for reason, count in one.dropped.items()) or "none",
                )
                for name, one in report.sets.items()
            ],
        )
    )  # fmt: skip
    if report.depths:
        print_line()
        print_table(
            Table(
                columns=("layers", "parameters", *sets, "average", "s per 1,000 texts"),
                rows=[
                    (one.layers, one.parameters, *(one.accuracy[name] for name in sets), one.average, one.seconds_per_1000)
                    for one in report.depths
                ],
            )
        )
    print_line()
    print_line(report.recipe.rstrip())


def _share(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _lost(lost: float | None, on: str | None) -> str:
    return "" if lost is None else f"{-100 * lost:+.1f} points on {on}"
