"""A round before it starts: every input checked, every stage counted, nothing written.

Counts of candidates, samples and steps are exact if every task is kept and has a winner. Token caps are upper bounds.
Prompt tokens are estimated from the seeds, and time is what the workspace's finished rounds took with the same settings:
estimates from the machine's speed were off by up to a factor of eleven.
"""

from __future__ import annotations

from dataclasses import replace

from flywheel.config import Config
from flywheel.core.quiet import silence
from flywheel.engines.factory import choose
from flywheel.engines.generator import local_engine
from flywheel.estimate.checks import warnings_of
from flywheel.estimate.history import read_state
from flywheel.estimate.inputs import Inputs, device_memory, find_inputs, shape_of, writer_of
from flywheel.estimate.plan import Plan, Stages
from flywheel.instructions.tasks import read_seeds, read_tasks
from flywheel.records import ModelKind
from flywheel.reward.recipe import key_of, recipe_of
from flywheel.round.checks import check_inputs
from flywheel.workspace import Workspace


def dry_run(workspace: Workspace, config: Config, *, restart: bool = False) -> Plan:
    """What the next round would do, need and cost; raises what the round would raise for its inputs."""
    import torch

    silence()
    inputs = find_inputs(config)
    check_inputs(inputs.checkable(), reach=False)
    engine = choose(config.engine, inputs.generator.folder if inputs.generator else None)
    state = read_state(workspace, config, config.identity() | {"engine.name": engine.name}, restart=restart)
    config, student = inputs.config, inputs.student
    seeds, held_out = read_seeds(config.path(config.instructions.seeds)), read_tasks(config.path(config.evaluation.tasks))
    generator = trained = writer_of(config, inputs.generator, engine, config.engine, seeds, held_out)
    if student:
        settings = local_engine(config)
        trained = writer_of(config, student, choose(settings, student.folder), settings, seeds, held_out)
    stages = Stages(
        config=config,
        generator=generator,
        trained=trained,
        reward=shape_of(inputs.base, layers=config.reward.layers),
        available=device_memory("cuda" if torch.cuda.is_available() else "cpu"),
        rates=state.rates,
        held_out=len(held_out),
        earlier_winners=state.winners,
    )
    built = _is_built(workspace, inputs)
    work = [] if built else list(stages.reward_model(inputs.sets))
    work += [stage for name in state.rounds for stage in stages.work(name) if stage.name not in state.done]
    shapes = {"generator": generator.shape, "student": trained.shape if student else None, "reward": stages.reward}
    models = {"generator": inputs.generator, "training.student": student, "reward.base": inputs.base}
    plan = Plan(
        round=state.rounds[-1],
        engine=engine,
        models={name: shape for name, shape in shapes.items() if shape},
        work=work,
        done=["reward model", *state.done] if built else state.done,
        prices=config.prices,
        notes=[
            f"{key} {model.name} is not on this machine: a round would fetch it, and its tokens are estimated from characters"
            for key, model in models.items()
            if model and not model.complete
        ],
    )
    return replace(plan, warnings=list(warnings_of(inputs, workspace, stages, plan)))


def _is_built(workspace: Workspace, inputs: Inputs) -> bool:
    """Whether the reward model of this configuration is recorded and on disk."""
    here = inputs.base.complete and len(inputs.sets) == len(inputs.config.reward.members)
    recorded = workspace.store.models(ModelKind.REWARD) if here and workspace.store.path.exists() else []
    # A recipe's digest reads the base's weights and all data: only if there is something to compare it with.
    key = key_of(recipe_of(inputs.config)) if recorded else ""
    return any(model.recipe.get("key") == key and workspace.has(model) for model in recorded)
