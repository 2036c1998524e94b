"""Members: reward models trained from the shared base, on thumbs or on pairs."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)
from trl import RewardConfig as RewardTrainerConfig
from trl import RewardTrainer

from flywheel.core.progress import Advance
from flywheel.errors import ConfigError, DataError, ModelError
from flywheel.instructions.prompts import Prompts
from flywheel.records import CurvePoint, Facts
from flywheel.reward.data import PreferenceSet, Row, Thumb
from flywheel.reward.recipe import TrainingSettings
from flywheel.reward.sources import Split
from flywheel.reward.text import answer_texts, end_mark
from flywheel.training.checkpoints import discard, train_resumably
from flywheel.training.lora import adapted

CURVE_POINTS = 50
"""About how many points a learning curve has."""
LOWER_RATE = "Lower `reward.learning_rate`, or the `learning_rate` of the member or of `reward.joint` where it has its own."


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training: the model at ``base`` becomes the member in ``folder``."""

    base: Path
    folder: Path
    data: PreferenceSet
    settings: TrainingSettings
    prompts: Path
    seed: int
    checkpoints: Path
    """A folder from which a killed training resumes; it is removed at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The result of a training."""

    facts: Facts
    curve: tuple[CurvePoint, ...]


def train_member(job: Job, advance: Advance) -> Trained:
    """Train one member and save it whole, adapters merged in; ``advance`` is called with the steps done and their total.

    Raises ConfigError for an argument that the trainer does not take, DataError if no row fits, ModelError for a NaN loss.
    """
    started = time.monotonic()
    data, settings = job.data, job.settings
    tokenizer = AutoTokenizer.from_pretrained(job.base, padding_side="right", trust_remote_code=False)
    model = AutoModelForSequenceClassification.from_pretrained(
        job.base, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    tokenized = partial(_dataset, tokenizer=tokenizer, prompts=Prompts(job.prompts), max_length=settings.max_length)
    rows = data.of(Split.TRAIN)
    dataset = tokenized(rows)
    if not len(dataset):
        message = f"all {len(rows)} training rows of {data.source} are longer than reward.max_length ({settings.max_length})"
        raise DataError(message, "Raise `reward.max_length`.")
    arguments = _arguments(job)
    evaluated = tokenized(data.of(Split.VALIDATION)) if arguments.get("eval_strategy", "no") != "no" else None
    # Before the trainer, which draws the adapters' first weights.
    torch.manual_seed(job.seed)
    if settings.lora:
        model = adapted(model, settings.lora, task="SEQ_CLS", key="reward.lora.targets")
    datasets = {"train_dataset": dataset, "eval_dataset": evaluated}
    try:
        # A name that neither trainer knows is refused here, for thumbs too.
        RewardTrainerConfig(output_dir=str(job.checkpoints), **({"use_cpu": True, "bf16": False} | dict(settings.args)))
        if data.kind == "thumbs":
            # One label, or it could not be merged with pairwise members; transformers' name for
            # binary cross-entropy on one label (its default would be a squared error).
            model.config.problem_type = "multi_label_classification"
            thumbs_arguments = TrainingArguments(**arguments, remove_unused_columns=False)
            trainer = Trainer(model, thumbs_arguments, data_collator=DataCollatorWithPadding(tokenizer), **datasets)
        else:
            config = RewardTrainerConfig(**({"max_length": settings.max_length, "gradient_checkpointing": False} | arguments))
            trainer = RewardTrainer(model=model, args=config, processing_class=tokenizer, **datasets)
    except (TypeError, ValueError) as error:
        message = f"invalid training argument for {data.source}: {' '.join(str(error).split())}"
        raise ConfigError(message, "Fix `reward.args`, or `args` of the member.") from None
    result = train_resumably(trainer, job.checkpoints, minutes=settings.checkpoint_minutes, advance=advance)
    history = trainer.state.log_history
    # Over all steps, those before a checkpoint too: the trainer's own figure has only those after it.
    losses = [entry["loss"] for entry in history if "loss" in entry]
    loss = statistics.fmean(losses) if losses else result.training_loss
    if not math.isfinite(loss):
        raise ModelError(f"the training on {data.source} ended with a loss of {loss}", LOWER_RATE)
    trained = trainer.accelerator.unwrap_model(trainer.model)
    trained = trained.merge_and_unload() if settings.lora else trained
    trained.config.use_cache = True
    trained.save_pretrained(job.folder)
    tokenizer.save_pretrained(job.folder)
    discard(job.checkpoints)
    steps = arguments.get("max_steps", 0)
    steps = steps if steps > 0 else math.ceil(len(dataset) / settings.batch_size * settings.epochs)
    all_steps = "logging_steps" in {**settings.args, **settings.own_args}
    too_long = {"too long": len(rows) - len(dataset)} if len(dataset) < len(rows) else {}
    facts = Facts(
        rows=len(dataset), dropped={**data.dropped, **too_long}, loss=loss, seconds=round(time.monotonic() - started, 1)
    )
    return Trained(facts=facts, curve=_curve(history, every=1 if all_steps else max(1, steps // CURVE_POINTS)))


def _arguments(job: Job) -> dict[str, Any]:
    """The trainer's arguments: thumbs have transformers', pairs have trl's on top of them."""
    settings, names = job.settings, {field.name for field in fields(TrainingArguments)}
    shared = {name: value for name, value in settings.args.items() if job.data.kind == "pairs" or name in names}
    return {
        "output_dir": str(job.checkpoints),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": settings.batch_size,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "seed": job.seed,
        "save_strategy": "no",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": False,
    } | shared | dict(settings.own_args)  # fmt: skip


def _curve(history: Sequence[Mapping[str, Any]], *, every: int) -> tuple[CurvePoint, ...]:
    """The trainer's log without its final summary: means over ``every`` steps, and all evaluations.

    The trainer's own means would miss the steps before a checkpoint that it resumes from.
    """
    last = max((int(entry["step"]) for entry in history), default=0)
    values: dict[tuple[int, str], list[float]] = {}
    for entry in history:
        if "train_runtime" in entry:
            continue
        for name, value in entry.items():
            if name not in ("step", "epoch", "num_tokens") and isinstance(value, int | float):
                step = int(entry["step"])
                point = step if name.startswith("eval_") else min(last, math.ceil(step / every) * every)
                values.setdefault((point, name), []).append(float(value))
    return tuple(CurvePoint(step=step, name=name, value=statistics.fmean(some)) for (step, name), some in values.items())


def _dataset(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, prompts: Prompts, *, max_length: int) -> Dataset:
    """Tokenized here and not by the trainer, so that training and scoring read the same tokens."""
    texts = answer_texts(prompts, [answer for row in rows for answer in row.answers], end_mark(tokenizer))
    ids = iter(tokenizer(texts).input_ids if texts else [])
    kept = []
    for row in rows:
        cells = {name: next(ids) for name in (("input_ids",) if isinstance(row, Thumb) else ("chosen_ids", "rejected_ids"))}
        if max(map(len, cells.values())) <= max_length:
            kept.append(cells | ({"labels": [float(row.liked)]} if isinstance(row, Thumb) else {}))
    return Dataset.from_list(kept)
