"""What a plan would fail over: too little memory or disk, texts that are too long, a budget that is too small."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence

from flywheel.config import BudgetConfig
from flywheel.engines.factory import check
from flywheel.errors import FlywheelError
from flywheel.estimate.inputs import Inputs
from flywheel.estimate.plan import Plan, Planner, Work
from flywheel.records import Stage
from flywheel.workspace import Workspace

GIB = 1 << 30
SMALLER = "set engine.compute_type to a smaller type, or use a smaller generator"
FIXES: Mapping[str, str] = {
    **dict.fromkeys((Stage.PROPOSE, Stage.ANSWER, Stage.PARAPHRASE, Stage.EVALUATE), SMALLER),
    Stage.TRAIN: "set training.lora, or raise training.accumulate",
    "merge": "lower reward.layers, or use a smaller base",
}
"""What helps against too little memory, by the last word of a work's name."""


def warnings_of(inputs: Inputs, workspace: Workspace, planner: Planner, plan: Plan) -> Iterator[str]:
    """What the user should know before the round starts."""
    try:
        # The plan may be made on another machine than the round, and the last generator may be pruned.
        check(inputs.config.engine, inputs.generator.folder if inputs.generator else None)
        rounds = workspace.store.rounds() if workspace.store.path.exists() else []
        for model_id in [row.generator_out for row in rounds if row.generator_out][-1:]:
            workspace.locate(workspace.store.model(model_id))
    except FlywheelError as error:
        yield str(error)
    yield from _thinking(inputs)
    yield from _too_long(planner)
    yield from memory_short(plan.work)
    yield from _disk_short(workspace, planner, plan)
    yield from _budget_short(planner.config.budget, plan)


def memory_short(works: Sequence[Work]) -> Iterator[str]:
    """Work that needs more memory than there is."""
    for work in works:
        if work.memory and work.available and work.memory > work.available:
            fix = FIXES.get(work.name.rpartition(" ")[2], "set reward.lora, or lower reward.layers")
            yield f"{work.name} needs at least {work.memory / GIB:,.1f} of {work.available / GIB:,.1f} GiB memory; {fix}"


def _disk_short(workspace: Workspace, planner: Planner, plan: Plan) -> Iterator[str]:
    """A disk without room for the models in float32."""
    shape, reward = planner.trained.shape, planner.config.reward
    models = 0 if "reward model" in plan.done else len(reward.members) + 2 + bool(reward.joint.epochs)
    needed = 4 * ((shape.parameters if shape else 0) + models * planner.reward.parameters)
    folder = next(folder for folder in (workspace.folder, *workspace.folder.parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        yield f"models need {needed / GIB:,.1f} GiB of disk, but {folder} has {free / GIB:,.1f}; use another --workspace"


def _too_long(planner: Planner) -> Iterator[str]:
    """Prompts and texts that would be dropped or cut, as far as the seeds and the held-out tasks show."""
    config, outputs, longest = planner.config, planner.config.sampling.max_tokens, planner.longest_text
    for model, stage, tokens in (
        (planner.generator, Stage.PROPOSE, config.instructions.max_tokens),
        (planner.generator, Stage.ANSWER, outputs),
        (planner.trained, Stage.EVALUATE, outputs),
    ):
        positions, prompt = model.shape.positions if model.shape else None, max(model.prompts[stage])
        if positions and prompt + tokens > positions:
            exceeds = f"prompts of up to {prompt:,} tokens and {tokens:,} new ones exceed the model's {positions:,}"
            yield f"{stage}: {exceeds}, and such prompts get no output; lower max_tokens, or use shorter seeds"
    if longest > config.training.max_length:
        yield f"texts have up to {longest:,} tokens, and training drops the longest; raise training.max_length"
    if longest > min(config.reward.max_length, planner.reward.positions or longest):
        yield f"texts have up to {longest:,} tokens, and the longest lose their beginning when scored; raise reward.max_length"


def _thinking(inputs: Inputs) -> Iterator[str]:
    """Models whose chat template enables thinking by default."""
    from transformers import AutoTokenizer

    config = inputs.config
    for source in (inputs.generator, inputs.student):
        if config.prompt_style == "chat" and source and source.complete and "enable_thinking" not in config.chat_arguments:
            tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=config.engine.trust_remote_code)
            if "enable_thinking" in str(tokenizer.chat_template):
                yield f"candidates of {source.name} would be thoughts; set chat_arguments.enable_thinking=false"


def _budget_short(budget: BudgetConfig, plan: Plan) -> Iterator[str]:
    """Limits that are reached before the end: as estimated, without what is unknown, or for tokens at worst."""
    minutes = sum(work.seconds or 0.0 for work in plan.work) / 60
    estimates = {"tokens": plan.total["tokens"], "minutes": minutes, "cost": sum(work.cost or 0.0 for work in plan.work)}
    for name, value in estimates.items():
        limit, most = getattr(budget, name), plan.total["most_tokens"]
        if limit is not None and value > limit:
            yield f"budget.{name} = {limit:,} will run out ({value:,.0f} estimated); the same command then resumes"
        elif limit is not None and name == "tokens" and most > limit:
            yield f"budget.tokens = {limit:,} may run out (at most {most:,} tokens are generated)"
