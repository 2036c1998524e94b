"""A whole round of nano against the sum of its raw parts: what the loop, the store and the filters add.

The raw parts do the same work with the libraries alone: CTranslate2 writes as many proposals, candidates and held-out samples
for the same prompts, torch scores the same texts in batches sorted by length, trl trains on the same texts. Both take turns
in one process; loading models counts in both, importing libraries in neither, and the reward model is built before. `--json`
for scripts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import duckdb
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from flywheel import config as configuration
from flywheel.config import Config
from flywheel.core.progress import Silent
from flywheel.core.quiet import silence
from flywheel.core.seeds import derive
from flywheel.instructions.prompts import Prompts
from flywheel.instructions.tasks import read_tasks
from flywheel.records import ModelKind
from flywheel.round.loop import run_next_round
from flywheel.training import training_examples
from flywheel.workspace import Workspace

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    silence()
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        begun = Workspace(Path(folder) / "begun")
        # The reward model is built with little: its size counts here, not its judgement.
        small = ["reward.joint.epochs=0.05", *(f"reward.members.{name}.epochs=0.05" for name in ("thumbs", "pairs", "form"))]
        begun.init(configuration.find("nano"), [*small, f"instructions.tasks={arguments.tasks}"])
        run_next_round(begun, begun.config(), Silent())
        for repeat in range(arguments.repeats):
            workspace = Workspace(Path(shutil.copytree(begun.folder, Path(folder) / f"w{repeat}")))
            config = workspace.config()
            started = time.perf_counter()
            run_next_round(workspace, config, Silent())
            seconds.setdefault("flywheel round", []).append(time.perf_counter() - started)
            for name, value in raw_parts(workspace, config, Path(folder) / f"raw{repeat}").items():
                seconds.setdefault(name, []).append(value)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    whole = medians.pop("flywheel round")
    ratio = whole / sum(medians.values())
    if arguments.json:
        print(json.dumps({"round_s": whole, "raw_s": medians, "ratio": ratio, "runs": seconds, "cores": os.cpu_count()}))
        return
    print(
        f"a round of {arguments.tasks} tasks x 4, {os.cpu_count()} cores, {platform.machine()}, median of {arguments.repeats}"
    )
    for name, value in medians.items():
        print(f"{name:<44} {value:6.2f} s")
    print(f"{'the raw parts together':<44} {sum(medians.values()):6.2f} s")
    print(f"{'flywheel round':<44} {whole:6.2f} s  {ratio:.2f} of it")


def raw_parts(workspace: Workspace, config: Config, folder: Path) -> dict[str, float]:
    """Seconds of each raw part of the workspace's last round."""
    last = workspace.store.rounds()[-1]
    before, after = (workspace.locate(workspace.store.model(str(one))) for one in (last.generator_in, last.generator_out))
    prompts, seeds = Prompts(config.path(config.prompts)), {one.task.task_id: one.task for one in _seeds(config)}
    tasks = list(workspace.store.tasks(last.round))
    held_out = read_tasks(config.path(config.evaluation.tasks))
    with duckdb.connect(str(workspace.store.path), read_only=True) as db:
        attempts = [
            row[0] for row in db.execute("SELECT demos FROM tasks WHERE round = ? ORDER BY attempt", [last.round]).fetchall()
        ]
    proposing = [prompts.propose([seeds[demo] for demo in demos]) for demos in attempts]
    answering = [prompts.answer(one.task) for one in tasks]
    examining = [prompts.answer(task) for task in held_out]
    folder.mkdir()
    found = {
        "CTranslate2, proposals and candidates": _timed(
            lambda: written(before, folder / "before", [(proposing, 1, 64), (answering, 4, 32)])
        )
    }
    merged, *_ = (workspace.locate(one) for one in workspace.store.models(ModelKind.REWARD))
    members = [workspace.locate(one) for one in workspace.store.models(ModelKind.MEMBER)]
    candidates = [text for group in workspace.store.candidates(last.round).values() for text in (one.output for one in group)]
    asked = [prompt for prompt in answering for _ in range(config.sampling.n)]
    texts = [f"{prompt} {text}" for prompt, text in zip(asked, candidates, strict=True)]
    winners = [f"{prompts.answer(one.task)} {one.output}" for one in workspace.store.winners([last.round])]
    found["torch, scores"] = _timed(lambda: [scored(merged, texts * 2), *(scored(member, winners) for member in members)])
    examples = training_examples(
        list(workspace.store.winners([last.round])),
        [([seeds[demo] for demo in one.demos], one.task) for one in tasks], prompts,
        proposal_share=config.training.proposal_share, names=(config.seed, last.round, "train"),
    )  # fmt: skip
    rows = [{"prompt": one.prompt, "completion": one.completion} for one in examples]
    found["trl, training"] = _timed(lambda: trained(before, folder / "trained", rows, config))
    found["CTranslate2, held-out samples"] = _timed(lambda: written(after, folder / "after", [(examining, 4, 32)]))
    return found


def _seeds(config: Config) -> Sequence[Any]:
    from flywheel.instructions.tasks import read_seeds

    return read_seeds(config.path(config.instructions.seeds))


def _timed(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def written(model: Path, folder: Path, jobs: Sequence[tuple[list[str], int, int]]) -> None:
    """Convert a generator and write n texts for each prompt."""
    ctranslate2.converters.TransformersConverter(str(model)).convert(str(folder))
    tokenizer = AutoTokenizer.from_pretrained(model)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({key: value or tokenizer.eos_token for key, value in config.items()}))
    generator = ctranslate2.Generator(str(folder), inter_threads=os.cpu_count() or 1, intra_threads=1)
    for prompts, n, most in jobs:
        tokens = [tokenizer.convert_ids_to_tokens(ids) for ids in tokenizer(prompts).input_ids]
        results = generator.generate_batch(
            tokens, max_batch_size=16 if n > 1 else 64, num_hypotheses=n, max_length=most, sampling_topk=0,
            end_token=[tokenizer.eos_token], include_prompt_in_result=False,
        )  # fmt: skip
        tokenizer.batch_decode([ids for result in results for ids in result.sequences_ids], skip_special_tokens=True)


@torch.inference_mode()
def scored(folder: Path, texts: list[str]) -> list[float]:
    """Scores of texts, batched by length."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    ordered = sorted(texts, key=len)
    scores: list[float] = []
    for start in range(0, len(ordered), BATCH):
        batch = tokenizer(ordered[start : start + BATCH], return_tensors="pt", padding=True)
        scores += model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0].tolist()
    return scores


def trained(start: Path, folder: Path, rows: list[dict[str, str]], config: Config) -> None:
    """What a script with trl does."""
    training = config.training
    arguments = SFTConfig(
        output_dir=str(folder), num_train_epochs=training.epochs, learning_rate=training.learning_rate,
        per_device_train_batch_size=training.batch_size, max_length=training.max_length, completion_only_loss=True,
        gradient_checkpointing=False, bf16=False, seed=derive(config.seed), save_strategy="no", logging_strategy="no",
        report_to="none", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(start)
    SFTTrainer(model=model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer).train()
    model.save_pretrained(folder)


if __name__ == "__main__":
    main()
