"""A round before it starts: every input checked, every stage counted, nothing written.

Counts of candidates, samples and steps are exact if every task is kept and has a winner. Token caps are upper bounds.
Prompt tokens are estimated from the seeds, and time is what the workspace's finished rounds took with the same settings:
estimates from the machine's speed were off by up to a factor of eleven.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flywheel.config import Config
from flywheel.core.quiet import silence
from flywheel.engines.generator import local_engine
from flywheel.estimate.checks import warnings_of
from flywheel.estimate.history import read_state
from flywheel.estimate.inputs import describe, find_models, is_downloaded, shape_of
from flywheel.estimate.plan import Plan, Planner
from flywheel.instructions.tasks import read_seeds, read_tasks
from flywheel.records import ModelKind, Stage
from flywheel.reward.build import configured_reward_model
from flywheel.reward.recipe import read_sets
from flywheel.reward.sources import SUFFIXES
from flywheel.round.checks import check_inputs
from flywheel.workspace import Workspace


def dry_run(workspace: Workspace, config: Config, *, restart: bool = False) -> Plan:
    """What the next round would do, need and cost; raises what the round would raise for its inputs."""
    silence()
    models, judges = find_models(config), config.evaluation.judges.values()
    downloaded = all(map(is_downloaded, models.values()))
    # The check would download them.
    if downloaded and all(Path(config.model(judge.model or "")).is_dir() for judge in judges if judge.kind == "model"):
        check_inputs(config, reach=False)
    seeds, held_out = read_seeds(config.path(config.instructions.seeds)), read_tasks(config.path(config.evaluation.tasks))
    generator = describe(config, models.get("generator"), config.engine, seeds, held_out)
    student = models.get("training.student")
    planner = Planner(
        config=config,
        state=read_state(workspace, config, config.identity() | {"engine.name": generator.engine.name}, restart=restart),
        held_out=len(held_out),
        generator=generator,
        trained=describe(config, student, local_engine(config), seeds, held_out) if student else generator,
        reward=shape_of(models["reward.base"], layers=config.reward.layers),
    )
    rounds, done = planner.state.rounds, planner.state.done
    # A recipe's digest reads the base's weights and all data: only if there is something to compare it with.
    recorded = downloaded and workspace.store.path.exists() and workspace.store.models(ModelKind.REWARD)
    built = recorded and configured_reward_model(config, workspace)
    on_hub = any(_is_on_hub(config, member.data) for member in config.reward.members.values())
    work = [] if built else list(planner.reward_model({} if on_hub else read_sets(config)))
    for name in rounds:
        stages = [stage for stage in planner.stages() if name != "r0" or stage.name == Stage.EVALUATE]
        work += [replace(stage, name=f"{name} {stage.name}") for stage in stages]
    shapes = {"generator": generator.shape, "student": planner.trained.shape if student else None, "reward": planner.reward}
    plan = Plan(
        round=rounds[-1],
        engine=generator.engine,
        models={name: shape for name, shape in shapes.items() if shape},
        work=[piece for piece in work if piece.name not in done],
        done=["reward model", *done] if built else done,
    )
    return replace(plan, warnings=list(warnings_of(models, workspace, planner, plan)))


def _is_on_hub(config: Config, data: str) -> bool:
    is_path = "/" not in data or data.startswith((".", "/", "~")) or data.endswith(SUFFIXES)
    return not is_path and not config.path(data).exists()
