"""Builds the embedded default from fixed seeds: tokenizer, generator, seeds, held-out tasks, preference data.

`make nano` runs it. The generator learns the world's tasks well and is then *blurred* on texts that are
often wrong, which gives a base that knows more than it does: room for a flywheel to turn.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from mistakes import blurred_output
from preferences import held_out_rows, preferences, seed_tasks
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from flywheel.core.assets import asset
from flywheel.instructions.prompts import Prompts, format_task
from flywheel.nano.tasks import SEED, fresh_tasks, held_out_tasks
from flywheel.nano.world import right_output
from flywheel.records import Task

VOCABULARY = 640
LEARN_STEPS, BLUR_STEPS = 2200, 150
ANSWERS_A_STEP, PROPOSALS_A_STEP = 96, 12
WRONG_ANSWER, WRONG_FORM = 0.6, 0.35
END, PAD = "<|end|>", "<|pad|>"

log = logging.getLogger(__name__)


def answer_text(prompts: Prompts, task: Task, output: str) -> str:
    return f"{prompts.answer(task)} {output}{END}"


def proposal_text(prompts: Prompts, tasks: list[Task]) -> str:
    return f"{prompts.propose(tasks[:-1])} {format_task(tasks[-1])}{END}"


def build_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE with single digits, so that numbers are read digit by digit."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, model_max_length=512)


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    return LlamaForCausalLM(config)


def summed_loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> tuple[torch.Tensor, int]:
    """Cross-entropy summed over all tokens but the padding, and the number of those tokens."""
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    targets = batch["input_ids"][:, 1:].masked_fill(batch["attention_mask"][:, 1:] == 0, -100)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=-100)
    return loss, int((targets != -100).sum())


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Prompts,
    tasks: Iterator[Task],
    *,
    steps: int,
    peak: float,
    wrong_answer: float,
    wrong_form: float,
) -> None:
    """Train on answer- and proposal-shaped texts with the given shares of mistakes in the outputs."""
    rng = random.Random(f"{SEED}/mistakes")
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.95), weight_decay=0.05)
    model.train()
    for step in range(steps):
        rate = peak * min(1.0, (step + 1) / 100) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        drawn = [next(tasks) for _ in range(ANSWERS_A_STEP)]
        answers = [
            answer_text(prompts, task, blurred_output(task, rng, wrong_answer=wrong_answer, wrong_form=wrong_form))
            for task in drawn
        ]
        proposals = [proposal_text(prompts, [next(tasks) for _ in range(4)]) for _ in range(PROPOSALS_A_STEP)]
        losses = [summed_loss(model, tokenizer, texts) for texts in (answers, proposals)]
        loss = torch.stack([total for total, _ in losses]).sum() / sum(count for _, count in losses)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps - 1:
            log.info("step %d of %d: loss %.3f", step, steps, loss.item())


@torch.no_grad()
def greedy_accuracy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: Prompts, tasks: list[Task]) -> float:
    model.eval()
    batch = tokenizer([prompts.answer(task) for task in tasks], return_tensors="pt", padding=True, padding_side="left")
    batch.pop("token_type_ids", None)
    generated = model.generate(**batch, max_new_tokens=24, do_sample=False)
    outputs = tokenizer.batch_decode(generated[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    right: int = sum(output.strip() == right_output(task) for task, output in zip(tasks, outputs, strict=True))
    return right / len(tasks)


def build_generator(folder: Path, prompts: Prompts) -> None:
    held_out = held_out_tasks()
    excluded = {(task.instruction, task.input) for task in held_out}
    tasks = fresh_tasks("corpus", excluded)
    rng = random.Random(f"{SEED}/tokenizer")
    sample = [next(tasks) for _ in range(4000)]
    tokenizer = build_tokenizer(
        [answer_text(prompts, task, blurred_output(task, rng, wrong_answer=0.3, wrong_form=0.3)) for task in sample]
        + [proposal_text(prompts, sample[i : i + 4]) for i in range(0, 1000, 4)]
    )
    model = build_model(tokenizer)
    log.info("%d parameters", sum(p.numel() for p in model.parameters()))
    train(model, tokenizer, prompts, tasks, steps=LEARN_STEPS, peak=2e-3, wrong_answer=0.0, wrong_form=0.0)
    log.info("learned: greedy accuracy %.3f", greedy_accuracy(model, tokenizer, prompts, held_out))
    train(model, tokenizer, prompts, tasks, steps=BLUR_STEPS, peak=5e-4, wrong_answer=WRONG_ANSWER, wrong_form=WRONG_FORM)
    log.info("blurred: greedy accuracy %.3f", greedy_accuracy(model, tokenizer, prompts, held_out))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def build_data(folder: Path, prompts: Prompts) -> None:
    """Write seeds, held-out tasks and preferences; the generator must exist."""
    write_jsonl(folder / "seeds.jsonl", seed_tasks())
    write_jsonl(folder / "heldout.jsonl", held_out_rows())
    with tempfile.TemporaryDirectory() as cache:
        for name, rows in preferences(prompts, folder / "generator", Path(cache)).items():
            write_jsonl(folder / f"{name}.jsonl", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=asset("data") / "nano", help="the folder to write")
    parser.add_argument("--data-only", action="store_true", help="keep the generator, rebuild what is sampled from it")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    prompts = Prompts(asset("prompts"))
    if not arguments.data_only:
        build_generator(arguments.to / "generator", prompts)
    build_data(arguments.to, prompts)


if __name__ == "__main__":
    main()
