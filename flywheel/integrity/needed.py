"""Which models are needed, and which can be removed. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence, Set

from flywheel.records import Model, ModelKind, Policy, Round

LAB = (ModelKind.BASE, ModelKind.MEMBER, ModelKind.REWARD)
"""What `flywheel reward build` builds."""


def kept_rounds(rounds: Sequence[Round], *, best: str | None, requested: Sequence[str]) -> dict[str, str]:
    """The rounds whose generators are kept, and why."""
    reasons = {row.round: "unfinished" for row in rounds if row.status != "done"}
    reasons |= {row.round: "original generator" for row in rounds if row.number == 0}
    reasons |= dict.fromkeys(requested, "requested")
    if best is not None:
        reasons[best] = "best"
    if done := [row.round for row in rounds if row.policy == Policy.BEST and row.status == "done"]:
        reasons[done[-1]] = "newest and best" if done[-1] == best else "newest"
    return reasons


def needed(models: Sequence[Model], rounds: Sequence[Round], kept: Set[str], *, configured: str | None) -> set[str]:
    """Ids of the models that the kept rounds depend on, with everything that their reward models are built from.

    ``configured`` is the reward model of the configuration, if it is built.
    """
    by_name = {row.round: row for row in rounds}
    ids: set[str | None] = {configured}
    for row in (by_name[name] for name in kept):
        ids |= {row.generator_out, row.reward_model, row.judge}
        if row.status != "done":
            # It generates with the generator of its parent, and its training starts from that one or the first.
            parent = by_name.get(row.parent or "")
            ids |= {row.generator_in, parent.generator_out if parent else None, rounds[0].generator_out}
    return ancestry(models, {model_id for model_id in ids if model_id is not None})


def ancestry(models: Sequence[Model], ids: Set[str]) -> set[str]:
    """These models, and the members and bases that the reward models among them were made from."""
    ancestors = set(ids)
    while parts := {
        part
        for model in models
        if model.model_id in ancestors and model.kind in LAB
        for part in (*model.facts.members, model.parent)
        if part is not None and part not in ancestors
    }:
        ancestors |= parts
    return ancestors


def removable(models: Sequence[Model], rounds: Sequence[Round], needed_ids: Set[str]) -> dict[str, str]:
    """Ids of models that can be removed, and why: generators of other rounds, and reward models that only these used.

    A reward model that no round has used yet is kept.
    """
    trained = {row.generator_out: row.round for row in rounds}
    used = ancestry(models, {row.reward_model for row in rounds if row.reward_model is not None})
    reasons = {}
    for model in models:
        if model.model_id in needed_ids or model.pruned_at is not None:
            continue
        if model.kind == ModelKind.GENERATOR:
            name = trained.get(model.model_id)
            reasons[model.model_id] = f"trained in {name}" if name else "of a deleted round"
        elif model.kind in LAB and model.model_id in used:
            reasons[model.model_id] = "used only in rounds that are not kept"
    return reasons
