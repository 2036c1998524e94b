"""The transformers engine and the reward model on a GPU, against the ceilings of the same GPU, and a round of nano.

    python benchmarks/gpu.py [--out FOLDER]        # on a machine with a CUDA GPU
    python benchmarks/gpu.py --dry-run             # the same steps on a CPU, with tiny models: shows that they run

Ceilings: a large copy gives the memory's bandwidth, a large bfloat16 product the rate of its matrix units. Writing one token
for each of B texts reads all weights once and all keys and values so far, so no engine writes more tokens a second than the
bandwidth divided by those bytes, times B. A text that is scored costs two operations for each weight and token. Weights are
random: what is measured is speed. Batch sizes double until memory is full.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from flywheel import config as configuration
from flywheel.config import EngineConfig
from flywheel.core.assets import asset
from flywheel.core.progress import Silent
from flywheel.core.quiet import silence
from flywheel.engines.contract import Sampling
from flywheel.engines.transformers_engine import TransformersEngine
from flywheel.errors import EngineError
from flywheel.report.rounds import summary
from flywheel.reward.model import RewardModel
from flywheel.round.loop import run_next_round
from flywheel.workspace import Workspace

PROMPT, NEW = 128, 128
"""Tokens read and written for each text."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--out", type=Path, default=None, help="folder for gpu.json")
    arguments = parser.parse_args()
    if not arguments.dry_run and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --dry-run runs the same steps on the CPU with tiny models")
    silence()
    device = "cpu" if arguments.dry_run else "cuda"
    told: dict[str, Any] = {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "torch": torch.__version__}
    told["ceilings"] = ceilings(device, size=256 if arguments.dry_run else 8192)
    print(json.dumps(told), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, config in models(tiny=arguments.dry_run).items():
            told[name] = measure(name, config, Path(folder), device, told["ceilings"], tiny=arguments.dry_run)
        told["nano"] = nano_round(Path(folder), device, tiny=arguments.dry_run)
    if arguments.out:
        (arguments.out / "gpu.json").write_text(json.dumps(told, indent=2), encoding="utf-8")


def models(*, tiny: bool) -> dict[str, Any]:
    if tiny:
        return {
            "gpt2-small": GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=640, n_positions=512),
            "llama-1b": LlamaConfig(
                hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, vocab_size=640
            ),
        }
    return {
        "gpt2-small": GPT2Config(vocab_size=50257),
        "llama-1b": LlamaConfig(
            hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8,
            vocab_size=50257, max_position_embeddings=4096, tie_word_embeddings=True,
        ),
    }  # fmt: skip


def ceilings(device: str, *, size: int) -> dict[str, float]:
    """Bytes and operations a second: a copy reads and writes, a product of n x n matrices takes 2 n^3."""
    one = torch.randn(size, size, dtype=torch.bfloat16, device=device)
    many = torch.empty(size * size * (8 if device == "cuda" else 1), dtype=torch.float32, device=device)
    into = torch.empty_like(many)
    return {
        "bytes_per_s": 2 * many.nbytes / timed(lambda: into.copy_(many), device),
        "operations_per_s": 2 * size**3 / timed(lambda: one @ one, device),
    }


def timed(work: Callable[[], object], device: str, repeats: int = 10) -> float:
    """Median seconds, after a turn to warm up."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def measure(name: str, config: Any, folder: Path, device: str, limits: dict[str, float], *, tiny: bool) -> dict[str, Any]:
    """Tokens a second of the engine and texts a second of a reward model of this size, by batch, in bfloat16."""
    torch.manual_seed(0)
    generator, reward = folder / name, folder / f"{name}-reward"
    llama = isinstance(config, LlamaConfig)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(asset("data/nano/generator"))
    (LlamaForCausalLM if llama else GPT2LMHeadModel)(config).to(torch.bfloat16).save_pretrained(generator)
    tokenizer.save_pretrained(generator)
    config.num_labels, config.pad_token_id = 1, tokenizer.pad_token_id
    (LlamaForSequenceClassification if llama else GPT2ForSequenceClassification)(config).save_pretrained(reward)
    tokenizer.save_pretrained(reward)
    weights = sum(path.stat().st_size for path in generator.glob("*.safetensors"))
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    kept = 2 * config.num_hidden_layers * heads * (config.hidden_size // config.num_attention_heads) * 2
    told: dict[str, Any] = {"weights_bytes": weights, "writing": [], "scoring": []}
    prompt = "word " * (PROMPT - 2)
    settings = EngineConfig(name="transformers", device=device, compute_type="bfloat16", batch_tokens=1 << 40)
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=8 if tiny else NEW)
    with closing(TransformersEngine(generator, settings)) as engine:
        for texts in doubling(tiny):
            try:
                engine.generate([prompt] * 2, n=2, sampling=sampling, seed=0)
                started = time.perf_counter()
                written = engine.generate([prompt] * max(1, texts // 4), n=4, sampling=sampling, seed=1)
                seconds = time.perf_counter() - started
            except EngineError:
                break
            tokens = sum(one.tokens for group in written for one in group)
            read = weights + texts * kept * (PROMPT + sampling.max_tokens / 2)
            ceiling = texts * limits["bytes_per_s"] / read
            told["writing"].append({"texts": texts, "tokens_per_s": tokens / seconds, "of_ceiling": tokens / seconds / ceiling})
            print(name, "writing", json.dumps(told["writing"][-1]), flush=True)
            if engine._batch_tokens < 1 << 40:
                break  # memory was full: the engine has halved its batches
    operations = 2 * weights / 2 * PROMPT
    for texts in doubling(tiny):
        try:
            model = RewardModel.load(reward, device=device, dtype="bfloat16", batch_tokens=texts * PROMPT)
            model.score_texts([prompt] * texts)
            started = time.perf_counter()
            model.score_texts([prompt] * texts * 2)
            seconds = time.perf_counter() - started
        except torch.OutOfMemoryError:
            break
        rate = 2 * texts / seconds
        told["scoring"].append(
            {"texts": texts, "texts_per_s": rate, "of_ceiling": rate * operations / limits["operations_per_s"]}
        )
        print(name, "scoring", json.dumps(told["scoring"][-1]), flush=True)
    return told


def doubling(tiny: bool) -> list[int]:
    return [4, 8] if tiny else [4 * 2**power for power in range(14)]


def nano_round(folder: Path, device: str, *, tiny: bool) -> dict[str, Any]:
    """A whole round of nano with its models on the device."""
    workspace = Workspace(folder / "workspace")
    sets = ["engine.name=transformers", f"engine.device={device}"]
    if tiny:
        sets += ["instructions.tasks=20", "reward.joint.epochs=0.02", "engine.chunk=64"]
        sets += [f"reward.members.{name}.epochs=0.02" for name in ("thumbs", "pairs", "form")]
    workspace.init(configuration.find("nano"), sets)
    started = time.perf_counter()
    run_next_round(workspace, workspace.config(), Silent())
    seconds = time.perf_counter() - started
    told = summary(workspace.store.path, "r1")
    print("nano round", f"{seconds:.1f} s", told["verdict"], flush=True)
    return {"seconds": seconds, "verdict": told["verdict"], "judge": told["judge"], "stages": told["stages"]}


if __name__ == "__main__":
    main()
