"""The answer stage against the script that people write: one prompt at a time through `model.generate`.

Same generator, same tasks, same number of candidates, sampling and float32 in both. The two run in turn, three times, in
one process; what is printed is each one's median and their ratio. `--json` for scripts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from flywheel.assets import asset
from flywheel.config import EngineConfig
from flywheel.engines.engine import Engine, Sampling, load
from flywheel.files import digest_model
from flywheel.instructions.tasks import read_tasks
from flywheel.instructions.text import Prompts
from flywheel.quiet import silence

MAX_TOKENS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    silence()
    generator = asset("data/nano/generator")
    prompts = Prompts(asset("prompts"))
    asked = [prompts.answer(task) for task in read_tasks(asset("data/nano/heldout.jsonl"))[: arguments.tasks]]
    tokenizer = AutoTokenizer.from_pretrained(generator)
    model = AutoModelForCausalLM.from_pretrained(generator, dtype=torch.float32).eval()
    with tempfile.TemporaryDirectory() as cache:
        engines = {
            name: load(EngineConfig(name=name), generator, cache=Path(cache), digest=digest_model(generator))
            for name in ("ctranslate2", "transformers")
        }
        runs: dict[str, Callable[[int], int]] = {
            "plain script (generate, one prompt at a time)": lambda seed: plain(model, tokenizer, asked, arguments.n, seed),
            "flywheel, transformers engine": lambda seed: through(engines["transformers"], asked, arguments.n, seed),
            "flywheel, ctranslate2 engine": lambda seed: through(engines["ctranslate2"], asked, arguments.n, seed),
        }
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for repeat in range(arguments.repeats):
            for name, run in runs.items():
                started = time.perf_counter()
                written = run(repeat)
                rates[name].append(written / (time.perf_counter() - started))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    slowest = next(iter(medians.values()))
    if arguments.json:
        print(json.dumps({"candidates_per_s": medians, "runs": rates, "cores": os.cpu_count()}))
        return
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    print(f"{len(asked)} tasks x {arguments.n} candidates, {machine}, median of {arguments.repeats} runs")
    for name, rate in medians.items():
        spread = f"{min(rates[name]):,.0f} to {max(rates[name]):,.0f}"
        print(f"{name:<48} {rate:>8,.0f} candidates/s  ({spread})  {rate / slowest:5.1f}x")


def plain(model: torch.nn.Module, tokenizer: AutoTokenizer, asked: list[str], n: int, seed: int) -> int:
    """What a script from a tutorial does."""
    torch.manual_seed(seed)
    written = 0
    for prompt in asked:
        batch = tokenizer(prompt, return_tensors="pt")
        with torch.inference_mode():
            ids = model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                do_sample=True,
                top_k=0,
                num_return_sequences=n,
                max_new_tokens=MAX_TOKENS,
                pad_token_id=tokenizer.pad_token_id,
            )
        written += len(tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True))
    return written


def through(engine: Engine, asked: list[str], n: int, seed: int) -> int:
    """The answer stage's own call, in its own chunks."""
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=MAX_TOKENS)
    chunks = [asked[start : start + 256] for start in range(0, len(asked), 256)]
    return sum(len(group) for chunk in chunks for group in engine.generate(chunk, n=n, sampling=sampling, seed=seed))


if __name__ == "__main__":
    main()
