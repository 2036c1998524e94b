"""Members: reward models trained from the shared base, on thumbs or on pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

from flywheel.config import MemberConfig, RewardConfig
from flywheel.errors import DataError
from flywheel.instructions.text import Prompts
from flywheel.quiet import watch
from flywheel.reward.data import Pair, Thumb
from flywheel.reward.text import Answer, token_ids


def train_member(
    base: Path,
    folder: Path,
    rows: Sequence[Thumb | Pair],
    member: MemberConfig,
    reward: RewardConfig,
    prompts: Prompts,
    *,
    seed: int,
    advance: Callable[[int, int], None],
) -> dict[str, Any]:
    """Train one member from the base and save it; returns its rows, its dropped rows, and its loss.

    ``advance`` is called with the steps done and the steps in all.
    """
    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="right")
    model = AutoModelForSequenceClassification.from_pretrained(base, dtype=torch.float32)
    train = _thumbs_trainer if member.kind == "thumbs" else _pairs_trainer
    dataset = _dataset(rows, tokenizer, prompts, max_length=reward.max_length)
    if not len(dataset):
        raise DataError(f"all {len(rows)} rows of {member.data} are over reward.max_length ({reward.max_length}); raise it")
    arguments = {
        "output_dir": str(folder),
        "num_train_epochs": member.epochs or reward.epochs,
        "learning_rate": reward.learning_rate,
        "per_device_train_batch_size": reward.batch_size,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "seed": seed,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": False,
    }
    trainer = train(model, tokenizer, dataset, arguments, reward.max_length)
    watch(trainer, advance)
    loss = trainer.train().training_loss
    model.config.use_cache = True
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"rows": len(dataset), "dropped_too_long": len(rows) - len(dataset), "loss": loss}


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

    return Trainer(
        model,
        TrainingArguments(**arguments, remove_unused_columns=False),
        data_collator=collate,
        train_dataset=dataset,
    )


def _pairs_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    arguments: dict[str, Any],
    max_length: int,
) -> Trainer:
    config = RewardTrainerConfig(**arguments, max_length=max_length, gradient_checkpointing=False)
    return RewardTrainer(model=model, args=config, train_dataset=dataset, processing_class=tokenizer)


def _dataset(rows: Sequence[Thumb | Pair], tokenizer: PreTrainedTokenizerBase, prompts: Prompts, *, max_length: int) -> Dataset:
    """Tokenized here and not by the trainer, so that training and scoring read the same tokens."""

    def tokens(answers: list[Answer]) -> list[list[int]]:
        return token_ids(tokenizer, prompts, answers)

    thumbs = [row for row in rows if isinstance(row, Thumb)]
    if thumbs:
        ids = tokens([row.answer for row in thumbs])
        columns: dict[str, list[Any]] = {"input_ids": ids, "labels": [float(row.liked) for row in thumbs]}
        fits = [len(row) <= max_length for row in ids]
    else:
        pairs = [row for row in rows if isinstance(row, Pair)]
        chosen, rejected = tokens([row.chosen for row in pairs]), tokens([row.rejected for row in pairs])
        columns = {"chosen_ids": chosen, "rejected_ids": rejected}
        fits = [max(len(a), len(b)) <= max_length for a, b in zip(chosen, rejected, strict=True)]
    kept = {name: [value for value, fit in zip(values, fits, strict=True) if fit] for name, values in columns.items()}
    return Dataset.from_dict(kept)
