"""Which round is next: the unfinished one, if its fingerprint still holds, or a new one after the last."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from flywheel.config import Config
from flywheel.core.version import __version__
from flywheel.engines.generator import choose_engine, initial_generator, initial_student
from flywheel.errors import StoreError
from flywheel.evaluation.judges import judge_models
from flywheel.instructions.prompts import load_prompts
from flywheel.instructions.tasks import read_held_out, read_seeds
from flywheel.records import Model, ModelKind, Policy, Round
from flywheel.round.fingerprint import fingerprint, full_identity, refuse_changes
from flywheel.workspace import Workspace

LIBRARIES = ("torch", "transformers", "trl", "datasets", "mergekit", "ctranslate2", "duckdb")


def open_round(workspace: Workspace, config: Config, reward: Model | None, *, proposing: bool = False) -> Round:
    """The unfinished round, or a new one after the last; raises ConfigError where its fingerprint has changed.

    ``proposing`` opens the next round though r0 may not be evaluated yet. A round can be opened without a reward model
    and gets one when it is resumed.
    """
    store = workspace.store
    rounds = store.rounds()
    if proposing and not rounds:
        rounds = [open_round(workspace, config, reward)]
    unfinished = next((row for row in rounds if row.status != "done" and (row.number > 0 or not proposing)), None)
    earlier = [row for row in rounds if unfinished is None or row.number < unfinished.number]
    parent = earlier[-1] if earlier else None
    first = initial_generator(config, workspace)
    student = first if config.training.student is None else initial_student(config, workspace)
    _follow_moved(workspace, first, student)
    trained = _trained_by(parent, workspace) if parent else student
    generator = trained if config.training.student is None else first
    engine = choose_engine(config)
    held_out = read_held_out(config.path(config.evaluation.tasks))
    seeds = read_seeds(config.path(config.instructions.seeds))
    prompts = load_prompts(config, workspace, generator).digest
    identity = full_identity(config, prompts=prompts, trained=trained, reward=reward, held_out=held_out, seeds=seeds)
    store.set_seeds(identity["digest.seeds"], seeds)
    if unfinished:
        return _resume(unfinished, workspace, identity, reward)
    judges = judge_models(config)
    for model in {model.model_id: model for model in (*judges, generator, trained)}.values():
        store.record_model(model)
    store.set_heldout(identity["digest.heldout"], held_out)
    number = parent.number + 1 if parent else 0
    opened = Round(
        round=f"r{number}",
        number=number,
        parent=parent.round if parent else None,
        status="running",
        seed=config.seed,
        fingerprint=fingerprint(identity),
        identity=identity,
        config=config.model_dump(mode="json"),
        generator_in=generator.model_id,
        generator_out=trained.model_id if number == 0 else None,
        reward_model=reward.model_id if reward else None,
        judge=judges[0].model_id,
        versions={"python": platform.python_version(), "flywheel": __version__} | {name: version(name) for name in LIBRARIES},
        engine={"name": engine.name, "why": engine.why},
    )
    store.open_round(opened)
    return opened


def open_control(workspace: Workspace, policy: Policy, of: str) -> Round:
    """The control of a finished round: the one recorded, or a new one. Raises StoreError where there can be none."""
    store = workspace.store
    rounds = {row.round: row for row in store.rounds(controls=True)}
    beside, name = rounds.get(of), f"{of}-{policy}"
    if beside is None or beside.status != "done" or beside.number == 0:
        raise StoreError(f"{of} has no candidates to select from yet", f"Finish {of} with `flywheel round`.")
    if name in rounds:
        if rounds[name].status != "done":
            store.set_status(name, "running")
        return rounds[name]
    if not any(True for _ in store.winners([of], policy=policy)):
        raise StoreError(f"the policy {policy} selected no candidate in {of}", "Choose another --control.")
    identity = {**beside.identity, "policy": str(policy)}
    opened = replace(
        beside, round=name, policy=policy, status="running", generator_out=None,
        identity=identity, fingerprint=fingerprint(identity),
    )  # fmt: skip
    store.open_round(opened)
    return opened


def unfinished_control(workspace: Workspace, policy: Policy) -> str | None:
    """The round whose control with this policy was started and stopped: it is finished before a new round starts."""
    if not workspace.store.path.exists():
        return None
    workspace.store.migrate()
    rounds = workspace.store.rounds(controls=True)
    return next((row.tasks_of for row in rounds if row.policy == policy and row.status != "done"), None)


def _resume(unfinished: Round, workspace: Workspace, identity: Mapping[str, Any], reward: Model | None) -> Round:
    refuse_changes([unfinished], identity)
    workspace.store.set_status(unfinished.round, "running")
    if unfinished.reward_model is None and reward is not None:
        unfinished = replace(unfinished, reward_model=reward.model_id, identity=identity, fingerprint=fingerprint(identity))
        workspace.store.set_reward_model(unfinished)
    return unfinished


def _follow_moved(workspace: Workspace, *initial: Model) -> None:
    """Record where the configured generator or student is now, if it has moved: in another checkout, on another machine."""
    recorded = {model.model_id: model for model in workspace.store.models(ModelKind.GENERATOR)}
    for model in initial:
        if model.model_id in recorded and recorded[model.model_id].path != model.path:
            workspace.store.record_model(model)


def _trained_by(parent: Round, workspace: Workspace) -> Model:
    """What a round has trained; raises ModelError where it has changed on disk."""
    assert parent.generator_out is not None
    trained = workspace.store.model(parent.generator_out)
    workspace.refuse_altered([trained])
    return trained
