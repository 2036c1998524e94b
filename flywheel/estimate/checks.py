"""What a plan would fail over: too little memory or disk, texts that are too long, a budget that is too small."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence

from flywheel.engines.factory import check
from flywheel.errors import FlywheelError
from flywheel.estimate.inputs import Inputs, Writer
from flywheel.estimate.plan import Plan, Stages, Work
from flywheel.records import Stage
from flywheel.workspace import Workspace

GENERATING = "set engine.compute_type to a smaller type, or use a smaller generator"
FIXES: Mapping[str, str] = {
    Stage.PROPOSE: GENERATING, Stage.ANSWER: GENERATING, Stage.PARAPHRASE: GENERATING, Stage.EVALUATE: GENERATING,
    Stage.TRAIN: "set training.lora, or raise training.accumulate", "merge": "lower reward.layers, or use a smaller base",
}  # fmt: skip
"""What helps against too little memory, by the last word of a work's name."""
GIB = 1 << 30


def warnings_of(inputs: Inputs, workspace: Workspace, stages: Stages, plan: Plan) -> Iterator[str]:
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
    yield from _too_long(stages)
    yield from memory_short(plan.work)
    shape, reward = stages.trained.shape, stages.config.reward
    models = 0 if "reward model" in plan.done else len(reward.members) + 2 + bool(reward.joint.epochs)
    needed = 4 * ((shape.parameters if shape else 0) + models * stages.reward.parameters)
    folder = next(folder for folder in (workspace.folder, *workspace.folder.parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        yield f"models need {needed / GIB:,.1f} GiB of disk, but {folder} has {free / GIB:,.1f}; use another --workspace"
    yield from _budget_short(stages, plan)


def memory_short(works: Sequence[Work]) -> Iterator[str]:
    """Work that needs more memory than there is."""
    for work in works:
        if work.memory and work.available and work.memory > work.available:
            fix = FIXES.get(work.name.rpartition(" ")[2], "set reward.lora, or lower reward.layers")
            yield f"{work.name} needs at least {work.memory / GIB:,.1f} of {work.available / GIB:,.1f} GiB memory; {fix}"


def _too_long(stages: Stages) -> Iterator[str]:
    """Prompts and texts that would be dropped or cut, as far as the seeds and the held-out tasks show."""
    config, outputs, longest = stages.config, stages.config.sampling.max_tokens, stages.longest_text
    yield from _prompts_too_long(stages.generator, Stage.PROPOSE, config.instructions.max_tokens)
    yield from _prompts_too_long(stages.generator, Stage.ANSWER, outputs)
    yield from _prompts_too_long(stages.trained, Stage.EVALUATE, outputs)
    if longest > config.training.max_length:
        yield f"texts have up to {longest:,} tokens, and training drops the longest; raise training.max_length"
    if longest > min(config.reward.max_length, stages.reward.positions or longest):
        yield f"texts have up to {longest:,} tokens, and the longest lose their beginning when scored; raise reward.max_length"


def _prompts_too_long(writer: Writer, stage: Stage, tokens: int) -> Iterator[str]:
    positions, longest = writer.shape.positions if writer.shape else None, max(writer.prompts[stage])
    if positions and longest + tokens > positions:
        yield (
            f"{stage}: prompts of up to {longest:,} tokens and {tokens:,} new ones exceed the model's {positions:,}, and such "
            "prompts get no output; lower max_tokens, or use shorter seeds"
        )


def _thinking(inputs: Inputs) -> Iterator[str]:
    """Models whose chat template enables thinking by default."""
    from transformers import AutoTokenizer

    config = inputs.config
    for source in (inputs.generator, inputs.student):
        if config.prompt_style == "chat" and source and source.complete and "enable_thinking" not in config.chat_arguments:
            tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=config.engine.trust_remote_code)
            if "enable_thinking" in str(tokenizer.chat_template):
                yield f"candidates of {source.name} would be thoughts; set chat_arguments.enable_thinking=false"


def _budget_short(stages: Stages, plan: Plan) -> Iterator[str]:
    """Limits that are reached before the end: as estimated, without what is unknown, or for tokens at worst."""
    tokens, most = plan.total["tokens"], plan.total["most_tokens"]
    minutes = sum(work.seconds or 0.0 for work in plan.work) / 60
    estimates = {"tokens": tokens, "minutes": minutes, "cost": sum(plan.cost(work) or 0.0 for work in plan.work)}
    for name, value in estimates.items():
        limit = getattr(stages.config.budget, name)
        if limit is not None and value > limit:
            yield f"budget.{name} = {limit:,} will run out ({value:,.0f} estimated); the same command then resumes"
        elif limit is not None and name == "tokens" and most > limit:
            yield f"budget.tokens = {limit:,} may run out (at most {most:,} tokens are generated)"
