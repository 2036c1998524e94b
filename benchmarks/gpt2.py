"""The reference recipe on a GPT-2 of true size, step by step, with the time and the peak memory of each.

    python benchmarks/gpt2.py TOKENIZER [--steps 4] [--base openai-community/gpt2]

TOKENIZER is a folder with GPT-2's encoder.json and vocab.bpe. Without --base the weights are random: what is measured is
size and speed, no quality. Every step is a `flywheel` command in a process of its own, as a user would type it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import torch
import yaml
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

from flywheel.core.assets import asset

ROWS = 200


def make_gpt2(tokenizer: Path, folder: Path) -> Path:
    """GPT-2 small with random weights and its own tokenizer, which has no pad token."""
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config()).save_pretrained(folder)
    vocabulary = json.loads((tokenizer / "encoder.json").read_text(encoding="utf-8"))
    lines = (tokenizer / "vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]
    merges = [tuple(line.split(" ")) for line in lines if line]
    GPT2TokenizerFast(vocab=vocabulary, merges=merges, model_max_length=1024).save_pretrained(folder)
    return folder


def write_config(folder: Path, base: str, steps: int) -> Path:
    """configs/gpt2.yaml with nano's preferences in place of the hub's, and few steps."""
    raw = yaml.safe_load(asset("configs/gpt2.yaml").read_text(encoding="utf-8"))
    raw["reward"] |= {"base": base, "args": {"max_steps": steps}}
    raw["generator"] = base
    for name, member in raw["reward"]["members"].items():
        kind = "thumbs" if member["kind"] == "thumbs" else "pairs" if name == "feedback" else "form"
        rows = asset(f"data/nano/{kind}.jsonl").read_text(encoding="utf-8").splitlines()[:ROWS]
        (folder / f"{name}.jsonl").write_text("\n".join(rows), encoding="utf-8")
        raw["reward"]["members"][name] = {"kind": member["kind"], "data": f"{name}.jsonl", "weight": member["weight"]}
    path = folder / "gpt2.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return path


def measured(name: str, command: list[str]) -> str:
    """Run a command; print its seconds and the most memory that it and its children held."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "flywheel.cli", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    peak = [0]

    def watch() -> None:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak[0] = max(peak[0], watched.memory_info().rss)
            except psutil.NoSuchProcess:
                return
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, err = process.communicate()
    watcher.join()
    if process.returncode:
        sys.exit(err.decode())
    print(f"{name:<28}{time.perf_counter() - started:>7.1f} s{peak[0] / 2**30:>8.2f} GiB", flush=True)
    return out.decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--steps", type=int, default=4, help="steps that each member is trained")
    parser.add_argument("--base", help="a GPT-2 that is there, in place of random weights")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = arguments.base or str(make_gpt2(arguments.tokenizer, folder / "gpt2"))
        workspace = ["-w", str(folder / "workspace")]
        config = write_config(folder, base, arguments.steps)
        init = [sys.executable, "-m", "flywheel.cli", *workspace, "init", "--config", str(config)]
        subprocess.run(init, check=True, stdout=subprocess.DEVNULL)
        print(f"{os.cpu_count()} cores; each member: {arguments.steps} steps of 8; time and memory of whole processes")
        sliced = measured("slice", ["reward", "slice", base, "--layers", "8", "--to", str(folder / "sliced")])
        for member in ("thumbs", "feedback", "hh"):
            measured(f"member {member}", [*workspace, "reward", "train", member])
        sql = "SELECT name, path FROM models WHERE kind IN ('member', 'base')"
        told = subprocess.run(
            [sys.executable, "-m", "flywheel.cli", *workspace, "sql", sql, "--json"], check=True, capture_output=True
        )
        paths = {row["name"]: str(folder / "workspace" / row["path"]) for row in json.loads(told.stdout)}
        weights = {"thumbs": 0.5, "feedback": 0.6, "hh": 0.05}
        recipe = measured(
            "merge (ties, float16)",
            [
                "reward", "merge", *(f"{paths[member]}={weight}" for member, weight in weights.items()),
                "--base", paths["8-layers"], "--dtype", "float16", "--to", str(folder / "merged"),
            ],
        )  # fmt: skip
        texts = ["I am happy.", "Go away!", "Paris, of course."]
        scored = measured("score 3 texts", [*workspace, "reward", "score", str(folder / "merged"), *texts])
        size = sum(file.stat().st_size for file in (folder / "merged").glob("*.safetensors"))
        print(f"\n{re.sub(r'^.*?: ', '', sliced.splitlines()[0])}; the merge is {size / 2**20:.0f} MiB on disk\n")
        print(scored.rstrip(), "\n", recipe.replace(str(folder), "…").rstrip(), sep="\n")


if __name__ == "__main__":
    main()
