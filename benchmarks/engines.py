"""The answer stage on each engine against the library beneath it, and what a candidate costs as N grows.

(a) Raw is the library alone on the same prompts, set as its fastest here: texts and log-probabilities come out, nothing is
kept. The stage renders the prompts, writes, and commits every candidate to DuckDB. Both have their model loaded before. They
take turns in one process; what is printed is each one's median and their ratio.

With --large both run a Llama of 85M parameters with random weights, which writes as slowly as a real model of that size:
what a candidate costs beside its tokens weighs less there. --max-tokens: its answers nearly all come out that long.

(b) The same prompts with N = 1, 4, 16 and 64: milliseconds for a candidate, and tokens read for it. `--json` for scripts.
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
from contextlib import ExitStack, closing
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from _rounds import begin, give_tasks

from flywheel import config as configuration
from flywheel.config import EngineConfig
from flywheel.core.assets import asset
from flywheel.core.quiet import silence
from flywheel.engines.contract import Engine, Sampling, prompt_tokens
from flywheel.engines.factory import load
from flywheel.instructions.prompts import Prompts
from flywheel.nano.tasks import fresh_tasks
from flywheel.records import Stage, Task
from flywheel.workspace import Workspace

NANO = asset("data/nano/generator")
MAX_TOKENS = 32
"""Of an answer, unless --max-tokens says otherwise."""
Raw = Callable[[list[str], int], int]
"""Takes prompts and a seed, gives the number of candidates written."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", nargs="*", default=["ctranslate2", "transformers", "vllm"])
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="a model of GPT-2's size with random weights")
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    silence()
    global NANO, MAX_TOKENS
    MAX_TOKENS = arguments.max_tokens
    if arguments.large:
        NANO = large(Path(tempfile.mkdtemp()))
    told: dict[str, Any] = {"cores": os.cpu_count(), "tasks": arguments.tasks, "n": arguments.n}
    if not arguments.json:
        print(f"{arguments.tasks} tasks x {arguments.n} candidates, {os.cpu_count()} cores, {platform.machine()}")
    for name in arguments.engines:
        if name == "vllm" and find_spec("vllm") is None:
            continue
        told[name] = measure(name, arguments.tasks if name != "transformers" else arguments.tasks // 4, arguments)
        if not arguments.json:
            show(name, told[name])
    if arguments.json:
        print(json.dumps(told))


def measure(name: str, size: int, arguments: argparse.Namespace) -> dict[str, Any]:
    drawn = {task.task_id: task for task in islice(fresh_tasks("benchmark", set()), 3 * size)}
    tasks = list(drawn.values())[:size]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engine = stack.enter_context(closing(load(EngineConfig(name=name), NANO, cache=folder, digest="nano")))
        raw = RAW[name](arguments.n, folder)
        prompts = [Prompts(asset("prompts")).answer(task) for task in tasks]
        rates: dict[str, list[float]] = {"raw": [], "stage": []}
        for repeat in range(arguments.repeats + 1):
            started = time.perf_counter()
            written = raw(prompts, repeat)
            rates["raw"].append(written / (time.perf_counter() - started))
            rates["stage"].append(size * arguments.n / stage(engine, tasks, arguments.n, folder / f"w{repeat}"))
        # The first turn of each warms up.
        medians = {key: statistics.median(values[1:]) for key, values in rates.items()}
        return {
            "candidates_per_s": medians,
            "runs": {key: values[1:] for key, values in rates.items()},
            "ratio": medians["stage"] / medians["raw"],
            "by_n": {} if arguments.large else by_n(engine, prompts, 16 if name == "transformers" else 64),
        }


def large(folder: Path) -> Path:
    """A model of GPT-2's size, with nano's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    config = LlamaConfig(
        hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12, vocab_size=len(tokenizer),
        max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def stage(engine: Engine, tasks: list[Task], n: int, folder: Path) -> float:
    """Seconds of the answer stage of a round that has these tasks."""
    workspace = Workspace(folder)
    sets = [f"sampling.n={n}", f"sampling.max_tokens={MAX_TOKENS}"]
    workspace.init(configuration.find("nano"), sets)
    run = begin(workspace, workspace.config())
    give_tasks(run, tasks)
    run.__dict__["engine"] = engine
    run.prompts.answer(tasks[0])
    started = time.perf_counter()
    run.stage(Stage.ANSWER, run.answer, total=len(tasks) * n, unit="candidates")
    return time.perf_counter() - started


def by_n(engine: Engine, prompts: list[str], size: int) -> dict[int, dict[str, float]]:
    """For each N, what a candidate costs: the same number of prompts, median of three."""
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=MAX_TOKENS)
    found = {}
    for n in (1, 4, 16, 64):
        seconds, read = [], 0.0
        for seed in range(4):
            started = time.perf_counter()
            written = engine.generate(prompts[:size], n=n, sampling=sampling, seed=seed)
            seconds.append(time.perf_counter() - started)
            read = prompt_tokens(written) / (size * n)
        found[n] = {"ms": 1000 * statistics.median(seconds[1:]) / (size * n), "prompt_tokens": read}
    return found


def raw_ctranslate2(n: int, folder: Path) -> Raw:
    import ctranslate2
    from transformers import AutoTokenizer

    (converted,) = folder.glob("nano-*")
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    generator = ctranslate2.Generator(str(converted), inter_threads=os.cpu_count() or 1, intra_threads=1)

    def run(prompts: list[str], seed: int) -> int:
        tokens = [tokenizer.convert_ids_to_tokens(ids) for ids in tokenizer(prompts).input_ids]
        results = generator.generate_batch(
            tokens,
            max_batch_size=16,
            num_hypotheses=n,
            max_length=MAX_TOKENS,
            sampling_topk=0,
            end_token=[tokenizer.eos_token],
            include_prompt_in_result=False,
            return_scores=True,
        )
        ids = [one for result in results for one in result.sequences_ids]
        return len(tokenizer.batch_decode(ids, skip_special_tokens=True))

    return run


def raw_transformers(n: int, folder: Path) -> Raw:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(NANO, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(NANO, dtype=torch.float32).eval()

    @torch.inference_mode()
    def run(prompts: list[str], seed: int) -> int:
        torch.manual_seed(seed)
        written = 0
        for start in range(0, len(prompts), 32):
            batch = tokenizer(prompts[start : start + 32], return_tensors="pt", padding=True)
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

    return run


def raw_vllm(n: int, folder: Path) -> Raw:
    # As the engine sets it on a CPU, where it is faster than vLLM's own default.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm import LLM, SamplingParams

    llm = LLM(model=str(NANO), dtype="float32", enforce_eager=True, kv_cache_memory_bytes=4 << 30)
    parameters = SamplingParams(n=n, temperature=1.0, max_tokens=MAX_TOKENS, logprobs=0)

    def run(prompts: list[str], seed: int) -> int:
        return sum(len(output.outputs) for output in llm.generate(prompts, parameters, use_tqdm=False))

    return run


RAW = {"ctranslate2": raw_ctranslate2, "transformers": raw_transformers, "vllm": raw_vllm}


def show(name: str, told: dict[str, Any]) -> None:
    for key, label in (("raw", f"{name} alone"), ("stage", f"answer stage on {name}")):
        runs = told["runs"][key]
        ratio = f"  {told['ratio']:5.2f} of it" if key == "stage" else ""
        rate, spread = told["candidates_per_s"][key], f"({min(runs):,.0f} to {max(runs):,.0f})"
        print(f"{label:<28} {rate:>8,.0f} candidates/s  {spread:<18}{ratio}")
    if not told["by_n"]:
        return
    costs = ", ".join(f"N = {n}: {cost['ms']:.2f} ms, {cost['prompt_tokens']:.2f} tokens" for n, cost in told["by_n"].items())
    print(f"  a candidate, and tokens read for it: {costs}")


if __name__ == "__main__":
    main()
