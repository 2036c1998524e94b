"""The whole reward lab on real human preferences, with a small base that is pre-trained on the texts there.

    python benchmarks/preferences.py DATA WORKSPACE [--minutes 10]

DATA is a folder with these public datasets, which their authors distribute:

    preference/hh_harmless_base.{train,test}.jsonl.gz   Anthropic hh-rlhf, harmless-base: chosen, rejected
    preference/pandalm_testset_v1.jsonl.gz              PandaLM: instruction, input, response1/2, three annotators
    preference/llmbar_and_mtbench_human.jsonl.gz        LLMBar and MT-Bench: input, output_1/2, label
    labels/halueval_general.jsonl.gz                    HaluEval: user_query, chatgpt_response, hallucination yes or no
    instructions/*.jsonl.gz                             instructions with outputs, for pre-training only

It creates WORKSPACE with its config; afterwards `flywheel -w WORKSPACE reward eval` prints the report again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from flywheel.config import DataConfig
from flywheel.core.assets import asset
from flywheel.reward.data import PreferenceSet
from flywheel.reward.reading import read_set
from flywheel.reward.sources import Split, find_source, read_source

WORDS, BLOCK, BATCH = 4096, 256, 16
END, PAD = "<|end|>", "<|pad|>"


def rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def prepare(data: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """The four sets as members of a config; only PandaLM is rewritten, for the majority of its annotators."""
    harmless = folder / "harmless"
    harmless.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        shutil.copy(data / f"preference/hh_harmless_base.{split}.jsonl.gz", harmless / f"{split}.jsonl.gz")
    with (folder / "pandalm.jsonl").open("w", encoding="utf-8") as file:
        for row in rows(data / "preference/pandalm_testset_v1.jsonl.gz"):
            votes = Counter(row[f"annotator{number}"] for number in (1, 2, 3))
            row["preferred"] = votes.most_common(1)[0][0]
            file.write(json.dumps(row) + "\n")
    return {
        "harmless": {"kind": "pairs", "data": str(harmless)},
        "pandalm": {"kind": "pairs", "data": str(folder / "pandalm.jsonl")},
        "llmbar": {
            "kind": "pairs", "data": str(data / "preference/llmbar_and_mtbench_human.jsonl.gz"),
            "columns": {"instruction": "input"},
        },
        "halueval": {
            "kind": "thumbs", "data": str(data / "labels/halueval_general.jsonl.gz"), "liked": ["no"],
            "columns": {"instruction": "user_query", "output": "chatgpt_response", "label": "hallucination"},
        },
    }  # fmt: skip


def texts(data: Path, sets: list[PreferenceSet]) -> list[str]:
    """Instructions with outputs, and the answers of the train splits; nothing of a validation or test split."""
    found = [
        f"{answer.task.instruction}\n{answer.output}"
        for one in sets
        for row in one.of(Split.TRAIN)
        for answer in row.answers
        if answer.task
    ]
    for path in sorted((data / "instructions").glob("*.jsonl.gz")):
        for row in rows(path):
            output = row.get("output") or ""
            output = output[0] if isinstance(output, list) else output
            if "user_oriented" not in path.name and "six_model" not in path.name:
                found.append(f"{row['instruction']}\n{row.get('input') or ''}\n{output}")
    return list(dict.fromkeys(found))


def pretrain(folder: Path, corpus: list[str], minutes: float) -> None:
    """A Llama of a few million parameters, as long as asked for; it prints its loss as it goes."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        corpus,
        trainers.BpeTrainer(vocab_size=WORDS, special_tokens=[PAD, END], initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=END, pad_token=PAD, padding_side="right")
    order = random.Random(0)
    order.shuffle(corpus)
    stream = torch.tensor([token for text in corpus for token in [*tokenizer(text).input_ids, tokenizer.eos_token_id]])
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=192, intermediate_size=512, num_hidden_layers=6, num_attention_heads=6,
            max_position_embeddings=1024, tie_word_embeddings=True, bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, dtype="float32",
        )
    )  # fmt: skip
    size = sum(one.numel() for one in model.parameters())
    print(f"pre-training {size:,} parameters on {len(corpus):,} texts of {len(stream):,} tokens", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05)
    started, losses, read = time.monotonic(), [], 0
    for batch in blocks(stream, order):
        passed = (time.monotonic() - started) / (60 * minutes)
        if passed >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (len(losses) + 1) / 100) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * passed)))
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        read += batch.numel()
        if len(losses) % 100 == 0:
            print(f"step {len(losses)}: loss {sum(losses[-100:]) / 100:.3f}", flush=True)
    print(f"pre-trained: {read / len(stream):.1f} passes, loss {sum(losses[-100:]) / len(losses[-100:]):.3f}", flush=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def blocks(stream: torch.Tensor, order: random.Random) -> Iterator[torch.Tensor]:
    while True:
        starts = [order.randrange(len(stream) - BLOCK) for _ in range(BATCH)]
        yield torch.stack([stream[start : start + BLOCK] for start in starts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--minutes", type=float, default=10, help="how long to pre-train the base")
    arguments = parser.parse_args()
    folder: Path = arguments.workspace.resolve()
    members = prepare(arguments.data.resolve(), folder / "data")
    if not (folder / "generator").exists():
        sets = [
            read_set(read_source(find_source(one["data"], Path(one["data"]))), DataConfig(**one)) for one in members.values()
        ]
        pretrain(folder / "generator", texts(arguments.data, sets), arguments.minutes)
    raw = yaml.safe_load(asset("configs/nano.yaml").read_text(encoding="utf-8"))
    raw |= {"generator": str(folder / "generator")}
    raw["reward"] = {
        "base": str(folder / "generator"), "layers": 4, "epochs": 1, "learning_rate": 2e-4, "batch_size": 16,
        "joint": {"epochs": 1, "learning_rate": 3e-4},
        "max_length": 384, "search": {"trials": 12}, "members": {name: one | {"weight": 0.5} for name, one in members.items()},
    }  # fmt: skip
    config = folder / "preferences.yaml"
    config.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    flywheel = [sys.executable, "-m", "flywheel.cli", "--workspace", str(folder / "workspace")]
    if not (folder / "workspace/config.yaml").exists():
        subprocess.run([*flywheel, "init", "--config", str(config)], check=True)
    subprocess.run([*flywheel, "reward", "build"], check=True)
    subprocess.run([*flywheel, "reward", "eval"], check=True)


if __name__ == "__main__":
    main()
