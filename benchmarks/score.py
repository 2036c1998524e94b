"""The score stage against transformers' pipeline, and against what the machine's matrix multiplication can do.

The same reward model, the same texts (four outputs a task), float32, all in one process, taking turns; what is printed is
each one's median and its ratio to flywheel's. `--json` for scripts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, GPT2Config, GPT2ForSequenceClassification, pipeline

from flywheel.core.assets import asset
from flywheel.core.quiet import silence
from flywheel.instructions.prompts import Prompts
from flywheel.instructions.tasks import read_tasks
from flywheel.records import Task
from flywheel.reward.model import RewardModel
from flywheel.reward.slice import build_base
from flywheel.reward.text import Answer, answer_texts

N = 4


def nano_answers(tasks: int) -> list[Answer]:
    """Outputs as short as nano's."""
    words = ["ant", "the cat", "bee, cow, dog", "17"]
    found = read_tasks(asset("data/nano/heldout.jsonl"))
    return [Answer(task=task, output=word) for task in itertools.islice(itertools.cycle(found), tasks) for word in words]


def long_answers(tasks: int) -> list[Answer]:
    """Prompts and outputs as long as instruction data has them: some 60 and 40 tokens of nano's tokenizer in the median."""
    found = read_tasks(asset("data/nano/heldout.jsonl"))
    made = []
    for place in range(tasks):
        a, b, c = found[place % 500], found[(place * 7 + 1) % 500], found[(place * 11 + 2) % 500]
        task = Task(instruction=f"{a.instruction} {b.instruction}", input=f"{a.input}; {b.input}", constraints=a.constraints)
        made += [Answer(task=task, output=f"{c.instruction} {c.input} {a.input} {k}"[: 20 + 25 * k]) for k in range(1, N + 1)]
    return made


def reference_model(folder: Path) -> Path:
    """GPT-2 cut to 8 of 12 layers, of true size, with random weights and nano's tokenizer (the vocabulary costs no time)."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(asset("data/nano/generator"))
    config = GPT2Config(n_layer=8, num_labels=1, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)
    model = GPT2ForSequenceClassification(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def nano_model(folder: Path) -> Path:
    build_base(str(asset("data/nano/generator")), folder, layers=3, seed=0)
    return folder


def ceiling() -> float:
    """What float32 matrix multiplication reaches here, in floating point operations a second."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - started)
    return 2 * 2048**3 / min(times)


def operations(scorer: RewardModel, texts: Sequence[str], answers: Sequence[Answer]) -> tuple[float, float]:
    """Floating point operations of the matrix multiplications that scoring needs: all texts whole, and prompts once.

    Two for each weight and token, and four for each pair of positions, width and layer (no padding, nothing else).
    """
    config = scorer.network.model.config
    layers, width = config.num_hidden_layers, config.hidden_size
    embeddings = sum(one.weight.numel() for one in scorer.network.model.modules() if isinstance(one, torch.nn.Embedding))
    weights = sum(one.numel() for one in scorer.network.model.parameters()) - embeddings
    ids = scorer.tokenizer(list(texts)).input_ids
    whole = sum(2.0 * weights * len(row) + 2.0 * layers * width * len(row) ** 2 for row in ids)
    saved = 0.0
    for _, group in itertools.groupby(range(len(answers)), key=lambda place: answers[place].task):
        rows = [ids[place] for place in group]
        first, last = min(rows), max(rows)
        shared = next((place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(map(len, rows)))
        saved += (len(rows) - 1) * (2.0 * weights * shared + 2.0 * layers * width * shared**2)
    return whole, whole - saved


def compare(name: str, folder: Path, answers: Sequence[Answer], *, repeats: int, single: int) -> Result:
    prompts = Prompts(asset("prompts"))
    scorer = RewardModel.load(folder, prompts, max_length=512)
    whole = RewardModel.load(folder, prompts, max_length=512, share_prompts=False)
    texts = answer_texts(prompts, answers, str(scorer.tokenizer.eos_token))
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right")
    pipe = pipeline("text-classification", model=folder.as_posix(), tokenizer=tokenizer, function_to_apply="none", device="cpu")
    few = texts[:: max(1, len(texts) // single)][:single]
    runs: dict[str, tuple[int, Callable[[], list[float]]]] = {
        "pipeline, one text at a time": (len(few), lambda: [pipe(text)[0]["score"] for text in few]),
        "pipeline, batch_size=64": (len(texts), lambda: [one["score"] for one in pipe(list(texts), batch_size=64)]),
        "flywheel, every text whole": (len(texts), lambda: whole.score_answers(answers)),
        "flywheel": (len(texts), lambda: scorer.score_answers(answers)),
    }
    rates: dict[str, list[float]] = {run: [] for run in runs}
    ceilings, scores = [], {}
    for _ in range(repeats):
        ceilings.append(ceiling())
        for run, (count, score) in runs.items():
            started = time.perf_counter()
            scores[run] = score()
            rates[run].append(count / (time.perf_counter() - started))
    # Raw scores on both sides: these models have no scale of their own.
    sampled = [texts.index(text) for text in few]
    ours, batched, alone = (scores[run] for run in ("flywheel", "pipeline, batch_size=64", "pipeline, one text at a time"))
    gaps = [abs(a - b) for a, b in zip(ours, batched, strict=True)]
    gaps += [abs(a - ours[place]) for a, place in zip(alone, sampled, strict=True)]
    of_whole, of_shared = operations(scorer, texts, answers)
    return Result(
        name=name,
        parameters=sum(one.numel() for one in scorer.network.model.parameters()),
        texts=len(texts),
        tokens=statistics.median(len(row) for row in scorer.tokenizer(texts).input_ids),
        rates=rates,
        ceiling=statistics.median(ceilings),
        operations_whole=of_whole / len(texts),
        operations_shared=of_shared / len(texts),
        difference=max(gaps),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one model's runs gave."""

    name: str
    parameters: int
    texts: int
    tokens: float
    """Median of a text."""
    rates: dict[str, list[float]]
    """Texts a second of every run."""
    ceiling: float
    """Floating point operations a second."""
    operations_whole: float
    """Of a text, on average, with nothing shared."""
    operations_shared: float
    difference: float
    """The largest between raw scores of the same text."""

    def rate(self, run: str) -> float:
        return statistics.median(self.rates[run])

    def of_ceiling(self, run: str, operations: float) -> float:
        return self.rate(run) * operations / self.ceiling

    def lines(self) -> Iterator[str]:
        shape = f"{self.texts:,} texts, {N} a task, {self.tokens:.0f} tokens in the median"
        yield f"{self.name}, {self.parameters:,} parameters: {shape}"
        for run, rates in self.rates.items():
            ratio = self.rate(run) / self.rate("pipeline, one text at a time")
            yield f"  {run:<30}{self.rate(run):>9,.1f} texts/s  ({min(rates):,.1f} to {max(rates):,.1f})  {ratio:.1f}x"
        batched = self.rate("flywheel") / self.rate("pipeline, batch_size=64")
        yield f"  flywheel over the pipeline with batch_size=64: {batched:.1f}x"
        whole = self.of_ceiling("flywheel, every text whole", self.operations_whole)
        shared = self.of_ceiling("flywheel", self.operations_shared)
        as_if = self.of_ceiling("flywheel", self.operations_whole)
        yield (
            f"  of the matrix ceiling, {self.ceiling / 1e9:.0f} GFLOP/s: {whole:.0%} with every text whole, "
            f"{shared:.0%} of what sharing leaves to do (as fast as {as_if:.0%} would be without it)"
        )
        yield f"  largest difference of a raw score: {self.difference:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nano-tasks", type=int, default=500)
    parser.add_argument("--long-tasks", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    silence()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        told = [
            compare(
                "nano", nano_model(Path(folder) / "nano"), nano_answers(arguments.nano_tasks),
                repeats=arguments.repeats, single=200,
            ),
            compare(
                "gpt2, 8 of 12 layers", reference_model(Path(folder) / "gpt2"), long_answers(arguments.long_tasks),
                repeats=arguments.repeats, single=24,
            ),
        ]  # fmt: skip
    if arguments.json:
        print(json.dumps([asdict(one) for one in told], indent=2))
        return
    print(f"{os.cpu_count()} cores, {platform.machine()}, float32, median of {arguments.repeats} runs")
    for one in told:
        print("\n".join(one.lines()))


if __name__ == "__main__":
    main()
