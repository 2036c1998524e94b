"""A round before it starts: every input checked, every stage counted, nothing written.

Counts of candidates, samples and steps are exact if every task is kept and has a winner. Token caps are upper bounds.
Prompt tokens are estimated from the seeds, and time is what the workspace's finished rounds took with the same settings:
estimates from the machine's speed were off by up to a factor of eleven.
"""

from __future__ import annotations

from dataclasses import replace

from flywheel.config import Config
from flywheel.core.quiet import silence
from flywheel.engines.generator import local_engine
from flywheel.estimate.checks import warnings_of
from flywheel.estimate.history import read_state
from flywheel.estimate.inputs import Inputs, describe, device_memory, find_inputs, shape_of
from flywheel.estimate.plan import Plan, Planner
from flywheel.instructions.tasks import read_seeds, read_tasks
from flywheel.records import ModelKind, Stage
from flywheel.reward.recipe import key_of, recipe_of
from flywheel.round.checks import check_inputs
from flywheel.workspace import Workspace


def dry_run(workspace: Workspace, config: Config, *, restart: bool = False) -> Plan:
    """What the next round would do, need and cost; raises what the round would raise for its inputs."""
    import torch

    silence()
    inputs = find_inputs(config)
    check_inputs(inputs.checkable(), reach=False)
    seeds, held_out = read_seeds(config.path(config.instructions.seeds)), read_tasks(config.path(config.evaluation.tasks))
    generator = describe(inputs.config, inputs.generator, config.engine, seeds, held_out)
    state = read_state(workspace, config, config.identity() | {"engine.name": generator.engine.name}, restart=restart)
    config, student = inputs.config, inputs.student
    planner = Planner(
        config=config,
        state=state,
        held_out=len(held_out),
        generator=generator,
        trained=describe(config, student, local_engine(config), seeds, held_out) if student else generator,
        reward=shape_of(inputs.base, layers=config.reward.layers),
        available=device_memory("cuda" if torch.cuda.is_available() else "cpu"),
    )
    built = _is_built(workspace, inputs)
    work = [] if built else list(planner.reward_model(inputs.sets))
    for name in state.rounds:
        stages = [stage for stage in planner.stages() if name != "r0" or stage.name == Stage.EVALUATE]
        work += [replace(stage, name=f"{name} {stage.name}") for stage in stages]
    models = {"generator": inputs.generator, "training.student": student, "reward.base": inputs.base}
    shapes = {"generator": generator.shape, "student": planner.trained.shape if student else None, "reward": planner.reward}
    plan = Plan(
        round=state.rounds[-1],
        engine=generator.engine,
        models={name: shape for name, shape in shapes.items() if shape},
        work=[piece for piece in work if piece.name not in state.done],
        done=["reward model", *state.done] if built else state.done,
        notes=[
            f"{key} {model.name} is not on this machine: a round would fetch it, and its tokens are estimated from characters"
            for key, model in models.items()
            if model and not model.complete
        ],
    )
    return replace(plan, warnings=list(warnings_of(inputs, workspace, planner, plan)))


def _is_built(workspace: Workspace, inputs: Inputs) -> bool:
    """Whether the reward model of this configuration is recorded and on disk."""
    here = inputs.base.complete and len(inputs.sets) == len(inputs.config.reward.members)
    recorded = workspace.store.models(ModelKind.REWARD) if here and workspace.store.path.exists() else []
    # A recipe's digest reads the base's weights and all data: only if there is something to compare it with.
    key = key_of(recipe_of(inputs.config)) if recorded else ""
    return any(model.recipe.get("key") == key and workspace.has(model) for model in recorded)
