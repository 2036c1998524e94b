"""The train stage's ways to batch and to train, on texts as a round of nano has them: answers, and longer ones that propose.

Each way trains the nano generator for one epoch on the same texts, in turn, several times, in one process; what is printed is
each one's median texts/s and tokens/s (loading and saving included), and the loss on texts held out. `--json` for scripts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from flywheel.config import LoraConfig, TrainingConfig
from flywheel.core.assets import asset
from flywheel.core.quiet import silence
from flywheel.instructions.prompts import Prompts
from flywheel.nano.tasks import fresh_tasks
from flywheel.nano.world import CONSTRAINTS, FAMILY_OF
from flywheel.records import Task, Winner
from flywheel.training import Example, Job, train_generator, training_examples

NANO = asset("data/nano/generator")
HELD_OUT = 200
COMMON = {"epochs": 1, "batch_size": 32, "max_length": 256}
WAYS = {
    "plain": TrainingConfig(**COMMON, learning_rate=5e-4),
    "grouped": TrainingConfig(**COMMON, learning_rate=5e-4, batching="grouped"),
    "packed": TrainingConfig(**COMMON, learning_rate=5e-4, batching="packed"),
    "plain, lora": TrainingConfig(**COMMON, learning_rate=5e-3, lora=LoraConfig()),
    "packed, lora": TrainingConfig(**COMMON, learning_rate=5e-3, batching="packed", lora=LoraConfig()),
    "plain, bfloat16": TrainingConfig(**COMMON, learning_rate=5e-4, dtype="bfloat16"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    silence()
    examples = texts(arguments.texts + HELD_OUT)
    trained, held_out = examples[HELD_OUT:], examples[:HELD_OUT]
    lengths = sorted(tokens(trained))
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    losses: dict[str, list[float]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(arguments.repeats):
            for name, way in WAYS.items():
                started = time.perf_counter()
                job = Job(
                    start=str(NANO), folder=Path(folder) / "trained", examples=trained, config=way, seed=repeat,
                    checkpoints=Path(folder) / "checkpoints",
                )  # fmt: skip
                train_generator(job, lambda done, total: None)
                rates[name].append(len(trained) / (time.perf_counter() - started))
                losses[name].append(loss(Path(folder) / "trained", held_out))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    untrained = loss(NANO, held_out)
    if arguments.json:
        figures = {"texts_per_s": medians, "runs": rates, "loss": losses, "untrained_loss": untrained}
        print(json.dumps(figures | {"tokens": sum(lengths), "cores": os.cpu_count()}))
        return
    spread = f"{lengths[0]} to {lengths[-1]} tokens, median {statistics.median(lengths):.0f}"
    print(f"{len(trained)} texts of {spread}; {os.cpu_count()} cores, {platform.machine()}, median of {arguments.repeats} runs")
    for name, rate in medians.items():
        speed = f"{rate:>5,.0f} texts/s  ({min(rates[name]):,.0f} to {max(rates[name]):,.0f})"
        tokens_s = f"{rate * sum(lengths) / len(lengths):>7,.0f} tokens/s"
        learnt = f"held-out loss {statistics.median(losses[name]):.3f}"
        print(f"{name:<18} {speed:<28} {tokens_s}  {rate / medians['plain']:5.2f}x  {learnt}")
    print(f"the untrained generator's held-out loss is {untrained:.3f}")


def texts(wanted: int) -> list[Example]:
    """Right answers and proposals in the share that a round mixes them in."""
    prompts = Prompts(asset("prompts"))
    tasks = list(itertools.islice(fresh_tasks("benchmark", set()), wanted * 2))
    winners = [Winner(task=task, output=answer(task)) for task in tasks[:wanted]]
    proposals = [(tasks[place - 3 : place], tasks[place]) for place in range(wanted, wanted * 2)]
    examples = training_examples(winners, proposals, prompts, proposal_share=0.2, names=("benchmark",))
    return list(itertools.islice(examples, wanted))


def answer(task: Task) -> str:
    """What the world says is right."""
    return str(CONSTRAINTS[task.constraints](FAMILY_OF[task.instruction].answer(task.input)))


def tokens(examples: list[Example]) -> list[int]:
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    return [len(ids) + 1 for ids in tokenizer([one.prompt + one.completion for one in examples]).input_ids]


@torch.inference_mode()
def loss(folder: Path, examples: list[Example]) -> float:
    """Mean over the tokens of the completions, one text at a time: no padding, no packing."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    total, count = 0.0, 0
    for one in examples:
        start = len(tokenizer(one.prompt).input_ids)
        ids = tokenizer(one.prompt + one.completion + tokenizer.eos_token, return_tensors="pt").input_ids
        labels = ids.clone()
        labels[:, :start] = -100
        total += float(model(ids, labels=labels).loss) * (ids.shape[1] - start)
        count += ids.shape[1] - start
    return total / count


if __name__ == "__main__":
    main()
