"""A round before it is begun: every input checked, every stage counted, nothing written.

Exact are the counts of candidates, samples and steps, given that every task is kept and has a winner. An upper bound are the
tokens generated *at most*. Estimates are the tokens read (prompts as long as the seeds make them), memory (of the numbers
alone) and time: from finished rounds of the workspace with the same settings, and where there is none from two rates of the
machine and the sizes of the models, for texts as long as they may be.

Measured, as time over estimate: a round of nano on two cores, torch with one, 1.6 to 2.0 for trainings, 0.7 to 2.5 for stages
that write (their texts are shorter than they may be; engines must load), 1.4 to 1.8 for those that score, and 11 for the merge,
which first imports mergekit. Steps of GPT-2 small and SmolLM2-135M, float32: time 1.5 to 2.2, memory 1.03 to 1.10.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from flywheel.config import Config
from flywheel.core.quiet import silence
from flywheel.engines.factory import check
from flywheel.engines.generator import engine_for
from flywheel.errors import FlywheelError, ModelError
from flywheel.estimate.doubts import budget_short, disk_short, memory_short, texts_too_long, thinks_aloud
from flywheel.estimate.inputs import Inputs, find_inputs
from flywheel.estimate.machine import Machine
from flywheel.estimate.plan import Plan
from flywheel.estimate.reward import Lab
from flywheel.estimate.sizes import read_config, reward_shape_of
from flywheel.estimate.stages import Stages
from flywheel.estimate.state import state_of
from flywheel.estimate.texts import CHARACTERS, Readings, count_tokens
from flywheel.estimate.writers import generator_of, machines, trained_of
from flywheel.instructions.prompts import Prompts
from flywheel.instructions.tasks import read_seeds, read_tasks
from flywheel.records import ModelKind
from flywheel.reward.recipe import key_of, recipe_of
from flywheel.round.checks import check_inputs
from flywheel.workspace import Workspace


def dry_run(workspace: Workspace, config: Config, *, restart: bool = False) -> Plan:
    """What one turn of the wheel would do, take and cost; raises what the turn would raise for its inputs.

    Nothing is written, and of models and data that are not on this machine nothing but a config.json is fetched.
    """
    silence()
    inputs = find_inputs(config)
    check_inputs(inputs.checkable(), reach=False)
    engine = engine_for(inputs.config, inputs.generator.folder if inputs.generator else None)
    state = state_of(workspace, config, config.identity() | {"engine.name": engine.name}, restart=restart)
    machine, writing = machines(inputs, engine)
    readings = Readings(
        config=config,
        seeds=read_seeds(config.path(config.instructions.seeds)),
        held_out=read_tasks(config.path(config.evaluation.tasks)),
    )
    generator = generator_of(inputs, workspace, readings, engine, writing)
    trained = trained_of(inputs, workspace, readings, generator, machine)
    lab = _lab(inputs, machine)
    stages = Stages(
        config=config,
        writer=generator,
        trained=trained,
        reward=lab.shape,
        reward_lengths=readings.lengths(lab.prompts, lab.tokens),
        machine=machine,
        rates=state.rates,
        held_out=len(readings.held_out),
        earlier_winners=state.winners,
    )
    built = _is_built(workspace, inputs)
    planned = [work for name in state.rounds for work in stages.work(name)]
    shapes = {"generator": generator.shape, "student": trained.shape if inputs.student else None, "reward": lab.shape}
    plan = Plan(
        round=state.rounds[-1],
        engine=engine,
        machine=machine,
        models={name: shape for name, shape in shapes.items() if shape},
        work=[*([] if built else lab.work(inputs.sets)), *(one for one in planned if one.name not in state.done)],
        done=[*(["reward model"] if built else []), *state.done],
        prices=config.prices,
        notes=list(_notes(inputs)),
        warnings=[*_cannot_start(inputs), *_pruned(workspace), *thinks_aloud(inputs), *texts_too_long(stages)],
    )
    short = [*memory_short(plan.work), *disk_short(workspace, stages, built=built), *budget_short(config, plan)]
    return replace(plan, warnings=[*plan.warnings, *short])


def _lab(inputs: Inputs, machine: Machine) -> Lab:
    from flywheel.reward.slice import shortened

    config, trust = inputs.config, inputs.config.engine.trust_remote_code
    base = read_config(inputs.base, trust_remote_code=trust)
    shape = reward_shape_of(base, config.reward.layers)
    return Lab(
        config=config,
        whole=reward_shape_of(base, int(base.num_hidden_layers)),
        sliced=shortened(base, config.reward.layers),
        shape=shape,
        machine=machine,
        prompts=Prompts(config.path(config.prompts)),
        tokens=count_tokens(inputs.base.folder if inputs.base.whole else None, trust_remote_code=trust),
    )


def _is_built(workspace: Workspace, inputs: Inputs) -> bool:
    """Whether the reward model of this configuration is recorded and lies there."""
    if not (inputs.whole and workspace.store.path.exists()):
        return False
    recorded = workspace.store.models(ModelKind.REWARD)
    # The recipe takes reading the base's weights and all data: not where there is nothing to compare it with.
    key = key_of(recipe_of(inputs.config)) if recorded else ""
    return any(one.recipe.get("key") == key and workspace.has(one) for one in recorded)


def _cannot_start(inputs: Inputs) -> Iterator[str]:
    """Why the engine would not start here: a plan may be made on another machine than the round."""
    try:
        check(inputs.config.engine, inputs.generator.folder if inputs.generator else None)
    except FlywheelError as error:
        yield str(error)


def _pruned(workspace: Workspace) -> Iterator[str]:
    """That the generator to go on from was removed."""
    done = [one for one in workspace.store.rounds() if one.generator_out] if workspace.store.path.exists() else []
    try:
        for one in done[-1:]:
            workspace.locate(workspace.store.model(one.generator_out or ""))
    except ModelError as error:
        yield str(error)


def _notes(inputs: Inputs) -> Iterator[str]:
    """What is not known for sure, and why."""
    models = {"generator": inputs.generator, "training.student": inputs.student, "reward.base": inputs.base}
    for name, found in models.items():
        if found and not found.whole:
            yield (
                f"{name} {found.source} is not on this machine: its config.json was read, a round would fetch its weights; "
                f"its tokens are taken to be {CHARACTERS:.0f} characters long"
            )
    if inputs.generator is None:
        yield f"the tokens of {inputs.config.generator} are taken to be {CHARACTERS:.0f} characters long"
