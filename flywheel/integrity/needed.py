"""Which models are needed, and which could go. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set

from flywheel.records import Model, ModelKind, Policy, Round

LAB = (ModelKind.BASE, ModelKind.MEMBER, ModelKind.REWARD)


def kept_rounds(rounds: Sequence[Round], *, best: str | None, asked: Sequence[str]) -> dict[str, str]:
    """The rounds whose generators stay, and why."""
    turns = [one for one in rounds if one.policy == Policy.BEST and one.status == "done"]
    found = {one.round: "not done" for one in rounds if one.status != "done"}
    found |= {one.round: "untouched" for one in rounds if one.number == 0}
    found |= {name: "asked for" for name in asked}
    if best is not None:
        found[best] = "the best"
    if turns:
        newest = turns[-1].round
        found[newest] = "the newest and the best" if newest == best else "the newest"
    return found


def needed(models: Sequence[Model], rounds: Sequence[Round], kept: Set[str], *, configured: str | None) -> set[str]:
    """Ids of the models that the kept rounds depend on, with all that a rebuild of their reward models starts from.

    ``configured`` is the reward model that the next round will select with, where it is built.
    """
    named = {one.round: one for one in rounds}
    found: set[str | None] = {configured}
    for one in (named[name] for name in kept):
        found |= {one.generator_out, one.reward_model, one.judge}
        if one.status != "done":
            # What writes its candidates, and what its training starts from: the generator before it, or the first.
            before = named.get(one.parent or "")
            found |= {one.generator_in, before.generator_out if before else None, rounds[0].generator_out}
    return ancestry(models, {one for one in found if one is not None})


def ancestry(models: Sequence[Model], ids: Set[str]) -> set[str]:
    """These models, and the members and bases that the reward models among them were made from."""
    named = {model.model_id: model for model in models}
    found, waiting = set(ids), [named[one] for one in ids if one in named]
    while waiting:
        for one in set(_made_from(waiting.pop())) - found:
            found.add(one)
            if one in named:
                waiting.append(named[one])
    return found


def _made_from(model: Model) -> Iterator[str]:
    if model.kind in LAB:
        yield from model.facts.members
        if model.parent is not None:
            yield model.parent


def freeable(models: Sequence[Model], rounds: Sequence[Round], needed_ids: Set[str]) -> Mapping[str, str]:
    """Ids of models that could go, and why: generators of rounds that are not kept, and what selected in them alone.

    A reward model that no round has used yet stays.
    """
    trained = {one.generator_out: one.round for one in rounds}
    used = ancestry(models, {one.reward_model for one in rounds if one.reward_model is not None})
    found = {}
    for model in models:
        if model.model_id in needed_ids or model.pruned_at is not None:
            continue
        if model.kind == ModelKind.GENERATOR:
            name = trained.get(model.model_id)
            found[model.model_id] = f"trained in {name}" if name else "of a round that was thrown away"
        elif model.kind in LAB and model.model_id in used:
            found[model.model_id] = "selected only in rounds that are not kept"
    return found
