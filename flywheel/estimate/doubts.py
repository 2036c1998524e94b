"""What a plan would stumble over: memory that is not there, texts that do not fit, a budget that is too small."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence

from flywheel.config import Config
from flywheel.estimate.inputs import Inputs
from flywheel.estimate.plan import Plan, Work
from flywheel.estimate.stages import Stages
from flywheel.estimate.writers import Writer
from flywheel.records import Stage
from flywheel.workspace import Workspace

WRITING = "set engine.compute_type to a smaller type, lower the tokens or n, or take a smaller generator"
READING = "lower reward.layers or reward.batch_tokens, or take a smaller base"
TRAINING = "set training.lora or training.gradient_checkpointing, or raise training.accumulate"
MEMBER = "set reward.lora, or lower reward.batch_size, reward.max_length or reward.layers"
MENDS: Mapping[str, str] = {
    Stage.PROPOSE: WRITING, Stage.ANSWER: WRITING, Stage.PARAPHRASE: WRITING, Stage.EVALUATE: WRITING,
    Stage.SCORE: READING, Stage.SELECT: READING, "accuracies": READING, "search": READING, Stage.TRAIN: TRAINING,
}  # fmt: skip
"""What helps against too little memory, by the last word of a work's name; for all others it is ``MEMBER``."""
GIB = 1 << 30


def memory_short(work: Sequence[Work]) -> Iterator[str]:
    """Work that needs more than there is."""
    for one in work:
        if one.memory and one.available and one.memory.total > one.available:
            mend = MENDS.get(one.name.rpartition(" ")[2], MEMBER)
            yield (
                f"{one.name} needs about {one.memory.total / GIB:,.1f} GiB, and there are {one.available / GIB:,.1f}; {mend}"
            )


def disk_short(workspace: Workspace, stages: Stages, *, built: bool) -> Iterator[str]:
    """Models that would not fit on the disk: what is trained in this round, and the reward lab's, in float32."""
    shape, reward = stages.trained.shape, stages.config.reward
    models = 0 if built else len(reward.members) + 2 + bool(reward.joint.epochs)
    needed = 4 * ((shape.parameters if shape else 0) + models * stages.reward.parameters)
    there = next(one for one in (workspace.folder, *workspace.folder.parents) if one.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        yield f"the models take {needed / GIB:,.1f} GiB of disk, and {there} has {free / GIB:,.1f}; name another --workspace"


def texts_too_long(stages: Stages) -> Iterator[str]:
    """Prompts and texts that would be dropped or cut, as far as the seeds and the held-out tasks show."""
    config, sampling = stages.config, stages.config.sampling
    yield from _prompts_too_long(
        stages.writer, stages.writer.lengths.propose.longest, config.instructions.max_tokens, "propose"
    )
    yield from _prompts_too_long(stages.writer, stages.writer.lengths.answer.longest, sampling.max_tokens, "answer")
    yield from _prompts_too_long(stages.trained, stages.trained.lengths.held_out.longest, sampling.max_tokens, "evaluate")
    longest = stages.trained.lengths.answer.longest + sampling.max_tokens + 1
    proposed = stages.trained.lengths.propose.longest + stages.trained.lengths.task.longest + 1
    if config.training.proposal_share:
        longest = max(longest, proposed)
    if longest > config.training.max_length:
        yield (
            f"texts of up to {longest:,} tokens are trained on, and training.max_length = {config.training.max_length:,} "
            "drops the longest; raise it"
        )
    read = stages.reward_lengths.answer.longest + sampling.max_tokens + 1
    most = min(config.reward.max_length, stages.reward.positions or config.reward.max_length)
    if read > most:
        yield f"texts of up to {read:,} tokens are scored, and over {most:,} they lose their beginning; raise reward.max_length"


def _prompts_too_long(writer: Writer, longest: int, tokens: int, stage: str) -> Iterator[str]:
    positions = writer.shape.positions if writer.shape else None
    if positions and longest + tokens > positions:
        yield (
            f"{stage}: prompts of up to {longest:,} tokens and {tokens:,} new ones are more than the {positions:,} that the "
            "model reads, and such prompts get no text; lower the tokens, or take shorter seeds"
        )


def thinks_aloud(inputs: Inputs) -> Iterator[str]:
    """Models whose chat template has them think before they answer, unless it is told otherwise."""
    from transformers import AutoTokenizer

    config = inputs.config
    for found in (inputs.generator, inputs.student):
        if config.prompt_style == "chat" and found and found.whole and "enable_thinking" not in config.chat_arguments:
            tokenizer = AutoTokenizer.from_pretrained(found.folder, trust_remote_code=config.engine.trust_remote_code)
            if "enable_thinking" in str(tokenizer.chat_template):
                yield f"{found.source} thinks aloud, and thoughts would be candidates; set chat_arguments.enable_thinking=false"


def budget_short(config: Config, plan: Plan) -> Iterator[str]:
    """Limits that are reached before the end, as estimated or, for tokens, at worst."""
    total = plan.total
    estimated = {"tokens": total["tokens"], "minutes": total["seconds"] / 60, "cost": total["cost"]}
    for name, value in estimated.items():
        limit = getattr(config.budget, name)
        if limit is None:
            continue
        if value > limit:
            yield f"budget.{name} = {limit:,} will be spent before the end ({value:,.0f} estimated); another call goes on"
        elif name == "tokens" and total["most_tokens"] > limit:
            yield f"budget.tokens = {limit:,} may be spent before the end (at most {total['most_tokens']:,} are generated)"
