"""Train: the generator is fine-tuned on the winners with trl, and keeps its skill to propose."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from flywheel.checkpoints import Advance, train_resumably
from flywheel.config import TrainingConfig
from flywheel.errors import ConfigError, DataError
from flywheel.instructions.text import Prompts
from flywheel.records import Task, Winner
from flywheel.seeds import generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A text to train on; the loss is on the completion only."""

    prompt: str
    completion: str


def training_examples(
    winners: Sequence[Winner],
    proposals: Sequence[tuple[Sequence[Task], Task]],
    prompts: Prompts,
    *,
    proposal_share: float,
    names: tuple[object, ...],
) -> list[Example]:
    """Winners as answer-shaped texts, mixed with proposal-shaped ones to the given share.

    ``proposals`` are kept tasks with the demos they were proposed from; as many as the share asks for are
    drawn from them, without repeats, so that a share too large for them is met as far as they go.
    """
    answers = [Example(prompt=prompts.answer(winner.task), completion=prompts.output(winner.output)) for winner in winners]
    rng = generator("training", *names)
    wanted = round(len(answers) * proposal_share / (1 - proposal_share)) if proposal_share < 1 else len(proposals)
    drawn = rng.sample(list(proposals), min(wanted, len(proposals)))
    proposed = [Example(prompt=prompts.propose(demos), completion=prompts.written(task)) for demos, task in drawn]
    examples = answers + proposed if proposal_share < 1 else proposed
    rng.shuffle(examples)
    return examples


def train_generator(
    start: str,
    folder: Path,
    examples: Sequence[Example],
    config: TrainingConfig,
    *,
    seed: int,
    advance: Advance,
    checkpoints: Path,
) -> dict[str, Any]:
    """Fine-tune the generator at ``start`` and save it in ``folder``; returns rows, dropped rows and loss.

    ``checkpoints`` is a folder for what a stopped training goes on from; it is removed at the end. Raises ConfigError
    where ``training.args`` holds what SFTConfig does not take.
    """
    if not examples:
        raise DataError(
            "no task of this round has a finished candidate, so there is nothing to train on; raise sampling.max_tokens"
        )
    tokenizer = AutoTokenizer.from_pretrained(start)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    texts = [example.prompt + example.completion + tokenizer.eos_token for example in examples]
    fits = [len(ids) <= config.max_length for ids in tokenizer(texts).input_ids]
    rows = [
        {"prompt": example.prompt, "completion": example.completion} for example, fit in zip(examples, fits, strict=True) if fit
    ]
    if not rows:
        raise DataError(f"all {len(examples)} training texts are over training.max_length ({config.max_length}); raise it")
    arguments = {
        "num_train_epochs": config.epochs,
        "learning_rate": config.learning_rate,
        "per_device_train_batch_size": config.batch_size,
        "max_length": config.max_length,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "completion_only_loss": True,
        "gradient_checkpointing": False,
        "bf16": False,
        "seed": seed,
        "output_dir": str(checkpoints),
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),
    }
    try:
        trainer_config = SFTConfig(**(arguments | config.args))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"training.args: {' '.join(str(error).split())}") from None
    model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32, use_safetensors=True)
    trainer = SFTTrainer(
        model=model,
        args=trainer_config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    loss = train_resumably(trainer, checkpoints, minutes=config.checkpoint_minutes, advance=advance).training_loss
    # The trainer switches the cache off; whoever generates with the saved model needs it.
    model.config.use_cache = True
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return {"rows": len(rows), "dropped_too_long": len(examples) - len(rows), "loss": loss}
