"""What a plan would fail over: too little memory or disk, texts that are too long, a budget that is too small."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.filesize import decimal

from flywheel.config import BudgetConfig, Config, EngineConfig
from flywheel.engines.factory import check
from flywheel.engines.machine import device
from flywheel.errors import FlywheelError
from flywheel.estimate.inputs import is_downloaded, memory_of
from flywheel.estimate.plan import Plan, Planner, Work
from flywheel.records import Stage
from flywheel.workspace import Workspace


def warnings_of(models: Mapping[str, Path], workspace: Workspace, planner: Planner, plan: Plan) -> Iterator[str]:
    """What the user should know before the round starts; ``models`` are folders by config key."""
    try:
        # The plan may be made on another machine than the round, and the last generator may be pruned.
        check(planner.config.engine, models.get("generator"))
        rounds = workspace.store.rounds() if workspace.store.path.exists() else []
        for model_id in [row.generator_out for row in rounds if row.generator_out][-1:]:
            workspace.locate(workspace.store.model(model_id))
    except FlywheelError as error:
        yield str(error)
    if missing := [key for key, folder in models.items() if not is_downloaded(folder)]:
        yield f"{', '.join(missing)} will be downloaded; until then, prompt tokens are estimated and inputs are not checked"
    yield from _thinking(planner.config, models)
    yield from _too_long(planner)
    yield from memory_short(plan.work, memory_of(device(EngineConfig())))
    yield from _disk_short(workspace, planner, plan)
    yield from _budget_short(planner.config.budget, plan)


def memory_short(works: Sequence[Work], available: int) -> Iterator[str]:
    """Work that needs more memory than the device has."""
    for work in works:
        if work.memory and work.memory > available:
            fix = "set reward.lora, or lower reward.layers"
            if work.name.endswith(Stage.TRAIN):
                fix = "set training.lora, or raise training.accumulate"
            elif work.tokens:
                fix = "set engine.compute_type to a smaller type, or use a smaller generator"
            yield f"{work.name} needs at least {decimal(work.memory)} of memory, and {decimal(available)} are available; {fix}"


def _disk_short(workspace: Workspace, planner: Planner, plan: Plan) -> Iterator[str]:
    """A disk without room for the models in float32."""
    shape, reward = planner.trained.shape, planner.config.reward
    models = 0 if "reward model" in plan.done else len(reward.members) + 2 + bool(reward.joint.epochs)
    needed = 4 * ((shape.parameters if shape else 0) + models * planner.reward.parameters)
    folder = next(folder for folder in (workspace.folder, *workspace.folder.parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        yield f"models need {decimal(needed)} of disk space, but {folder} has {decimal(free)}; use another --workspace"


def _too_long(planner: Planner) -> Iterator[str]:
    """Prompts and texts that would be dropped or cut, as far as the seeds and the held-out tasks show."""
    config, outputs, longest = planner.config, planner.config.sampling.max_tokens, planner.longest_text
    for model, stage, key, tokens in (
        (planner.generator, Stage.PROPOSE, "instructions", config.instructions.max_tokens),
        (planner.generator, Stage.ANSWER, "sampling", outputs),
        (planner.trained, Stage.EVALUATE, "sampling", outputs),
    ):
        positions, prompt = model.shape.positions if model.shape else None, max(model.prompts[stage])
        if positions and prompt + tokens > positions:
            exceeds = f"prompts of up to {prompt:,} tokens plus {tokens:,} generated exceed the model's limit of {positions:,}"
            yield f"{stage}: {exceeds} and get no output; lower {key}.max_tokens, or use shorter tasks"
    if longest > config.training.max_length:
        yield f"texts of up to {longest:,} tokens are too long to train on and get dropped; raise training.max_length"
    if longest > min(config.reward.max_length, planner.reward.positions or longest):
        yield f"texts of up to {longest:,} tokens lose their beginning when scored; raise reward.max_length"


def _thinking(config: Config, models: Mapping[str, Path]) -> Iterator[str]:
    """Models whose chat template enables thinking by default."""
    from transformers import AutoTokenizer

    if config.prompt_style != "chat" or "enable_thinking" in config.chat_arguments:
        return
    for key in ("generator", "training.student"):
        if key in models and is_downloaded(models[key]):
            tokenizer = AutoTokenizer.from_pretrained(models[key], trust_remote_code=config.engine.trust_remote_code)
            if "enable_thinking" in str(tokenizer.chat_template):
                yield f"the chat template of {key} enables thinking by default; set chat_arguments.enable_thinking=false"


def _budget_short(budget: BudgetConfig, plan: Plan) -> Iterator[str]:
    """Limits that are reached before the end: as estimated, without what is unknown, or for tokens at worst."""
    minutes = sum(work.seconds or 0.0 for work in plan.work) / 60
    estimates = {"tokens": plan.total["tokens"], "minutes": minutes, "cost": sum(work.cost or 0.0 for work in plan.work)}
    for name, value in estimates.items():
        limit, most = getattr(budget, name), plan.total["most_tokens"]
        if limit is not None and value > limit:
            yield f"budget.{name} = {limit:,} will run out ({value:,.0f} estimated); run the same command again to resume"
        elif limit is not None and name == "tokens" and most > limit:
            yield f"budget.tokens = {limit:,} may run out (at most {most:,} tokens are generated)"
