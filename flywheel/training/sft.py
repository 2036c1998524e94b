"""Supervised fine-tuning with trl, in one process or as one of several."""

from __future__ import annotations

import gc
import itertools
import math
import os
from array import array
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from flywheel.core.faults import short_of_memory
from flywheel.core.progress import Advance
from flywheel.errors import ConfigError, DataError, EngineError, ModelError
from flywheel.records import Facts
from flywheel.training.batching import Order, Rows, filled_up, keeps_apart, row_length
from flywheel.training.checkpoints import discard, train_resumably
from flywheel.training.job import Job
from flywheel.training.lora import merged, with_adapters

CHUNK = 1000
"""Texts that are tokenized at once."""


def train(job: Job, advance: Advance) -> Facts:
    """Do a training, or this process's part of it; returns and raises what `train_generator` does."""
    no_bfloat16 = torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False)
    if job.config.dtype == "bfloat16" and no_bfloat16:
        raise ConfigError("this GPU does not support `training.dtype` bfloat16", "Set it to float32 and add --restart.")
    tokenizer = AutoTokenizer.from_pretrained(job.start, trust_remote_code=job.trust_remote_code)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    try:
        with job.scratch() as folder:
            rows, lengths, too_long = _rows(job, tokenizer, folder / "texts.arrow")
            loss = _train(job, rows, lengths, tokenizer, advance)
            return Facts(rows=len(rows), dropped={"too long": too_long} if too_long else {}, loss=loss)
    except (MemoryError, RuntimeError) as error:
        if not short_of_memory(error):
            raise
        raise EngineError(
            "training ran out of memory",
            "Set `training.gradient_checkpointing` to true and run the same command to resume. Or raise `training.accumulate` "
            "or set `training.lora`, and add --restart.",
        ) from None
    finally:  # the engine that comes next needs the memory
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _train(job: Job, rows: Dataset, lengths: Sequence[int], tokenizer: PreTrainedTokenizerBase, advance: Advance) -> float:
    """Train and save the generator; returns the mean loss."""
    trainer = _trainer(job, rows, lengths, tokenizer)
    result = train_resumably(trainer, job.checkpoints, minutes=job.config.checkpoint_minutes, advance=advance)
    # Of every step and all processes, which the trainer's own figure is not after a resume.
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    loss = fmean(losses) if losses else result.training_loss
    if not math.isfinite(loss):
        raise ModelError(f"training ended with a loss of {loss}", "Lower `training.learning_rate` and add --restart.")
    # Gathered by all processes, where each has a part of them; saved by one.
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.is_world_process_zero():
        _save(job, trainer.accelerator.unwrap_model(trainer.model), weights, tokenizer)
        discard(job.checkpoints)
    return loss


def _rows(job: Job, tokenizer: PreTrainedTokenizerBase, file: Path) -> tuple[Dataset, Sequence[int], int]:
    """The examples that fit, mapped into memory from a file, the tokens of each, and the number of those that are too long."""
    settings = AutoConfig.from_pretrained(job.start, trust_remote_code=job.trust_remote_code).get_text_config()
    context = getattr(settings, "max_position_embeddings", None) or job.config.max_length
    limit = min(job.config.max_length, context)
    kept, total, examples = array("q"), 0, iter(job.examples)
    schema = pa.schema({"prompt": pa.string(), "completion": pa.string()})
    with pa.ipc.new_stream(file, schema) as writer:
        while chunk := list(itertools.islice(examples, CHUNK)):
            texts = [example.prompt + example.completion + tokenizer.eos_token for example in chunk]
            lengths = [len(ids) for ids in tokenizer(texts).input_ids]
            fitting = [asdict(example) for example, length in zip(chunk, lengths, strict=True) if length <= limit]
            writer.write_table(pa.Table.from_pylist(fitting, schema=schema))
            kept.extend(length for length in lengths if length <= limit)
            total += len(chunk)
    if total == 0:
        raise DataError(
            "no task of this round has a finished candidate, so there is nothing to train on",
            'Run `flywheel sql "SELECT finish_reason, count(*) FROM candidates GROUP BY ALL"`. Raise `sampling.max_tokens` for '
            "length, lower it for prompt-too-long, and add --restart.",
        )
    if not kept:
        raise DataError(
            f"all {total} training texts are longer than {limit} tokens",
            f"Raise `training.max_length` ({job.config.max_length}) or use a model with a longer context, and add --restart.",
        )
    return Dataset.from_file(str(file)), kept, total - len(kept)


def _trainer(job: Job, rows: Dataset, lengths: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> SFTTrainer:
    config = job.config
    # Adapters are trained on weights of half the size, and merged into whole ones.
    model = _load(job, torch.bfloat16 if config.lora and config.dtype == "bfloat16" else torch.float32)
    if config.batching == "packed" and not keeps_apart(model):
        raise ConfigError(
            f"`training.batching` is packed, but a {model.config.model_type} model cannot keep packed texts apart",
            "Set `training.batching` to grouped and add --restart.",
        )
    if config.lora:
        model = with_adapters(model, config.lora, seed=job.seed)
    try:
        settings = SFTConfig(**(_arguments(job, lengths) | config.args))
        # trl refuses one process with several GPUs; it has the first, and the others are for `training.processes`.
        settings._n_gpu = min(1, settings.n_gpu)
        trainer = SFTTrainer(model=model, args=settings, train_dataset=rows, processing_class=tokenizer)
    except (TypeError, ValueError) as error:
        message = f"trl rejects `training.args`: {' '.join(str(error).split())}"
        raise ConfigError(message, "Fix `training.args` and add --restart.") from None
    if config.batching == "packed":
        trainer.data_collator = Rows(tokenizer.pad_token_id)
    if config.batching == "grouped" or settings.world_size > 1:
        _order(trainer, job)
    return trainer


def _order(trainer: SFTTrainer, job: Job) -> None:
    """Give a trainer an order of its texts, and enough blank ones for every process to have some of each batch."""
    texts, settings = trainer.train_dataset, trainer.args
    step = settings.per_device_train_batch_size * settings.world_size
    blanks = -len(texts) % step if settings.world_size > 1 else 0
    trainer.train_dataset = filled_up(texts, blanks, trainer.processing_class.pad_token_id)
    order = Order(
        [len(ids) for ids in texts["input_ids"]], blanks=blanks, batch=step * settings.gradient_accumulation_steps,
        grouped=job.config.batching == "grouped", seed=job.seed,
    )  # fmt: skip
    trainer._get_train_sampler = lambda *args: order
    trainer.add_callback(order)


def _arguments(job: Job, lengths: Sequence[int]) -> dict[str, Any]:
    """The arguments of trl's SFTConfig; ``lengths`` are the tokens of each text."""
    config = job.config
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    parts = processes * config.accumulate
    if config.batch_size % parts:
        raise ConfigError(
            f"`training.batch_size` ({config.batch_size}) is not divisible by {processes} processes x `training.accumulate` "
            f"({config.accumulate})",
            f"Set `training.batch_size` to a multiple of {parts} and add --restart.",
        )
    arguments = {
        "num_train_epochs": config.epochs,
        "learning_rate": config.learning_rate,
        "per_device_train_batch_size": config.batch_size // parts,
        "gradient_accumulation_steps": config.accumulate,
        "max_length": config.max_length,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "completion_only_loss": True,
        "gradient_checkpointing": config.gradient_checkpointing,
        "bf16": config.dtype == "bfloat16",
        "seed": job.seed,
        "output_dir": str(job.checkpoints),
        "save_strategy": "no",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true",
    }
    if config.batching == "packed":
        row, rows = row_length(lengths, texts=config.batch_size, parts=parts)
        arguments |= {"packing": True, "max_length": row, "per_device_train_batch_size": rows}
    return arguments


def _load(job: Job, dtype: torch.dtype) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(
        job.start, dtype=dtype, use_safetensors=True, trust_remote_code=job.trust_remote_code
    )


def _save(job: Job, model: Any, weights: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> None:
    """Save the trained generator whole, adapters merged in."""
    if job.config.lora:
        model = merged(model, weights, into=_load(job, torch.float32), lora=job.config.lora)
    # The trainer switches the cache off; generation needs it.
    model.config.use_cache = True
    model.save_pretrained(job.folder, state_dict=None if job.config.lora else weights)
    tokenizer.save_pretrained(job.folder)
