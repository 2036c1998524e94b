"""Members: reward models trained from the shared base, on thumbs or on pairs."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)
from trl import RewardConfig as RewardTrainerConfig
from trl import RewardTrainer

from flywheel.core.progress import Advance
from flywheel.errors import ConfigError, DataError, ModelError
from flywheel.instructions.prompts import Prompts
from flywheel.records import CurvePoint
from flywheel.reward.data import Pair, PreferenceSet, Row, Thumb
from flywheel.reward.recipe import TrainingSettings
from flywheel.reward.sources import Split
from flywheel.reward.text import answer_texts, end_mark
from flywheel.training.checkpoints import discard, train_resumably
from flywheel.training.lora import adapted

CURVE_POINTS = 50
"""A learning curve has about so many points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came of training a member."""

    rows: int
    too_long: int
    loss: float
    seconds: float
    """From loading the base to saving the member."""
    curve: tuple[CurvePoint, ...]


def train_member(
    base: Path,
    folder: Path,
    data: PreferenceSet,
    settings: TrainingSettings,
    prompts: Prompts,
    *,
    seed: int,
    advance: Advance,
    checkpoints: Path,
) -> Trained:
    """Train one member from the base and save it whole, adapters merged in.

    ``advance`` is called with the steps done and the steps in all. ``checkpoints`` is a folder for what a killed
    training goes on from; it is removed at the end. Raises ConfigError for an argument that the trainer does not
    take, DataError where no row fits, ModelError where the loss is no number.
    """
    started = time.monotonic()
    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="right", trust_remote_code=False)
    model = AutoModelForSequenceClassification.from_pretrained(
        base, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    rows = data.of(Split.TRAIN)
    dataset = _dataset(rows, tokenizer, prompts, max_length=settings.max_length)
    if not len(dataset):
        raise DataError(f"all {len(rows)} rows of {data.source} are over reward.max_length ({settings.max_length}); raise it")
    # Thumbs have the trainer's arguments, pairs have trl's on top of them; a name that neither knows is refused below.
    known = {one.name for one in fields(TrainingArguments)}
    of_all = {name: value for name, value in settings.args.items() if data.kind == "pairs" or name in known}
    own = of_all | dict(settings.own_args)
    steps = max(0, int(own.get("max_steps", 0))) or math.ceil(len(dataset) / settings.batch_size * settings.epochs)
    arguments = {
        "output_dir": str(checkpoints),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": settings.batch_size,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "seed": seed,
        "save_strategy": "no",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": False,
    }
    arguments |= own
    if arguments.get("eval_strategy", "no") != "no":
        arguments["eval_dataset"] = _dataset(data.of(Split.VALIDATION), tokenizer, prompts, max_length=settings.max_length)
    # Before the trainer, which draws the adapters' first weights.
    torch.manual_seed(seed)
    if settings.lora:
        model = adapted(model, settings.lora, task="SEQ_CLS", key="reward.lora")
    train = _thumbs_trainer if data.kind == "thumbs" else _pairs_trainer
    try:
        RewardTrainerConfig(output_dir=str(checkpoints), **({"use_cpu": True, "bf16": False} | dict(settings.args)))
        trainer = train(model, tokenizer, dataset, arguments, settings.max_length)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"reward.args of {data.source}: {' '.join(str(error).split())}") from None
    result = train_resumably(trainer, checkpoints, minutes=settings.checkpoint_minutes, advance=advance)
    # Of every step, those before a checkpoint too: the trainer's own figure knows only those after it.
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    loss = statistics.fmean(losses) if losses else result.training_loss
    if not math.isfinite(loss):
        raise ModelError(f"training on {data.source} ended with a loss of {loss}; lower reward.learning_rate")
    trained = trainer.accelerator.unwrap_model(trainer.model)
    trained = trained.merge_and_unload() if settings.lora else trained
    trained.config.use_cache = True
    trained.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    curve = _curve(trainer.state.log_history, every=1 if "logging_steps" in own else max(1, steps // CURVE_POINTS))
    discard(checkpoints)
    return Trained(
        rows=len(dataset), too_long=len(rows) - len(dataset), loss=loss, seconds=time.monotonic() - started, curve=curve
    )


def _curve(history: Sequence[Mapping[str, Any]], *, every: int) -> tuple[CurvePoint, ...]:
    """What the trainer logged, but for its summary of the whole run: the means of so many steps, and evaluations as they are.

    The trainer could take the means, but forgets the steps before a checkpoint that it goes on from.
    """
    last = max((int(entry["step"]) for entry in history), default=0)
    values: dict[tuple[int, str], list[float]] = {}
    for entry in history:
        if "train_runtime" in entry:
            continue
        for name, value in entry.items():
            if name not in ("step", "epoch", "num_tokens") and isinstance(value, int | float):
                step = int(entry["step"])
                together = step if name.startswith("eval_") else min(last, math.ceil(step / every) * every)
                values.setdefault((together, name), []).append(float(value))
    return tuple(CurvePoint(step=step, name=name, value=statistics.fmean(found)) for (step, name), found in values.items())


def _thumbs_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    arguments: dict[str, Any],
    max_length: int,
) -> Trainer:
    # One label, or it could not be merged with pairwise members; transformers' name for
    # binary cross-entropy on one label (its default would be a squared error).
    model.config.problem_type = "multi_label_classification"

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        padded = tokenizer.pad({"input_ids": [row["input_ids"] for row in rows]}, return_tensors="pt")
        return dict(padded) | {"labels": torch.tensor([[row["labels"]] for row in rows])}

    evaluated = arguments.pop("eval_dataset", None)
    return Trainer(
        model,
        TrainingArguments(**arguments, remove_unused_columns=False),
        data_collator=collate,
        train_dataset=dataset,
        eval_dataset=evaluated,
    )


def _pairs_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    arguments: dict[str, Any],
    max_length: int,
) -> Trainer:
    evaluated = arguments.pop("eval_dataset", None)
    config = RewardTrainerConfig(**({"max_length": max_length, "gradient_checkpointing": False} | arguments))
    return RewardTrainer(model=model, args=config, train_dataset=dataset, eval_dataset=evaluated, processing_class=tokenizer)


def _dataset(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, prompts: Prompts, *, max_length: int) -> Dataset:
    """Tokenized here and not by the trainer, so that training and scoring read the same tokens."""
    texts = answer_texts(prompts, [answer for row in rows for answer in row.answers], end_mark(tokenizer))
    ids = iter(tokenizer(texts).input_ids if texts else [])
    columns: dict[str, list[Any]] = {}
    for row in rows:
        match row:
            case Thumb():
                cells = {"input_ids": next(ids), "labels": float(row.liked)}
                longest = len(cells["input_ids"])
            case Pair():
                cells = {"chosen_ids": next(ids), "rejected_ids": next(ids)}
                longest = max(len(cells["chosen_ids"]), len(cells["rejected_ids"]))
        if longest <= max_length:
            for name, value in cells.items():
                columns.setdefault(name, []).append(value)
    return Dataset.from_dict(columns)
