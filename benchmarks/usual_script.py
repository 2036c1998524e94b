"""A turn of the wheel against the script that people write for it, on nano, end to end.

The script: `model.generate` for one prompt at a time, transformers' text-classification pipeline for one text at a time, the
best of each N, and transformers' Trainer on the winners. flywheel: its answer, score, select and train stages, as in a round,
with all that they store; its select stage asks every member of the reward model about the winners, too. Generator, reward
model, tasks, N, sampling, float32, and the training's texts, batch size and epochs are the same.

The two run in turn, several times, in one process; what is printed is each one's median. The script is slow, so it answers a
part of the tasks. Models are loaded before the clock starts, but for training, where loading and saving count on both sides.
`--json` for scripts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _rounds import begin, give_tasks
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    pipeline,
)

from flywheel import config as configuration
from flywheel.config import Config
from flywheel.core.assets import asset
from flywheel.core.progress import Silent
from flywheel.core.quiet import silence
from flywheel.engines.contract import Request, Sampling
from flywheel.instructions.tasks import read_tasks
from flywheel.records import Model, Stage, Task
from flywheel.reward.build import build_reward_model
from flywheel.reward.text import Answer
from flywheel.round.context import RoundContext
from flywheel.round.stages.answer import answer, score
from flywheel.round.stages.select import select
from flywheel.round.stages.train import train
from flywheel.training import Example, training_examples
from flywheel.workspace import Workspace

PREFERENCES = 800
"""Rows of each preference set: enough for a reward model whose quality does not matter here."""


class UsualScript:
    """What a script from a tutorial does."""

    def __init__(self, generator: Path, reward: Path) -> None:
        self._generator = generator
        self._tokenizer = AutoTokenizer.from_pretrained(generator)
        self._model = AutoModelForCausalLM.from_pretrained(generator, dtype=torch.float32).eval()
        self.scoring_s = 0.0
        """Of the last call of `winners`."""
        self._reward = pipeline("text-classification", model=reward.as_posix(), function_to_apply="none", device="cpu")

    def winners(self, prompts: Sequence[str], n: int, max_tokens: int, seed: int) -> list[str]:
        """The best of N candidates for each prompt."""
        torch.manual_seed(seed)
        winners, self.scoring_s = [], 0.0
        for prompt in prompts:
            inputs = self._tokenizer(prompt, return_tensors="pt")
            with torch.no_grad():
                outputs = self._model.generate(
                    input_ids=inputs["input_ids"],
                    attention_mask=inputs["attention_mask"],
                    do_sample=True,
                    temperature=1.0,
                    top_p=1.0,
                    top_k=0,
                    num_return_sequences=n,
                    max_new_tokens=max_tokens,
                    pad_token_id=self._tokenizer.pad_token_id,
                )
            candidates = self._tokenizer.batch_decode(outputs[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            started = time.perf_counter()
            scores = [self._reward(prompt + candidate)[0]["score"] for candidate in candidates]
            self.scoring_s += time.perf_counter() - started
            winners.append(candidates[scores.index(max(scores))])
        return winners

    def train(self, examples: Sequence[Example], config: Config, folder: Path) -> None:
        """Fine-tune on these texts."""
        tokenizer = AutoTokenizer.from_pretrained(self._generator)
        model = AutoModelForCausalLM.from_pretrained(self._generator, dtype=torch.float32)
        texts = [one.prompt + one.completion + tokenizer.eos_token for one in examples]
        rows = Dataset.from_dict({"text": texts}).map(
            lambda row: tokenizer(row["text"], truncation=True, max_length=config.training.max_length), remove_columns="text"
        )
        arguments = TrainingArguments(
            output_dir=str(folder), num_train_epochs=config.training.epochs, learning_rate=config.training.learning_rate,
            per_device_train_batch_size=config.training.batch_size, use_cpu=True,
            save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True,
        )  # fmt: skip
        collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
        trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def prepare(folder: Path, n: int) -> tuple[Workspace, Model]:
    """A workspace with nano's reward model, of few preferences."""
    sets = [f"sampling.n={n}", "reward.joint.epochs=0.5"]
    for name in ("thumbs", "pairs", "form"):
        rows = asset(f"data/nano/{name}.jsonl").read_text(encoding="utf-8").splitlines()[:PREFERENCES]
        (folder / f"{name}.jsonl").write_text("\n".join(rows), encoding="utf-8")
        sets += [f"reward.members.{name}.data={folder / name}.jsonl", f"reward.members.{name}.epochs=0.5"]
    workspace = Workspace(folder / "workspace")
    workspace.init(configuration.find("nano"), sets)
    return workspace, build_reward_model(workspace.config(), workspace, Silent())


def fresh_round(workspace: Workspace, reward: Model, tasks: Sequence[Task], seed: int) -> RoundContext:
    """A round that has its tasks, and its models loaded."""
    workspace.store.discard_unfinished()
    run = begin(workspace, workspace.config([f"seed={seed}"]), reward)
    give_tasks(run, tasks)
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=run.config.sampling.max_tokens)
    request = Request(prompts=[run.prompts.answer(tasks[0])], n=1, sampling=sampling, seed=0)
    deque(run.generate([request]), maxlen=0)
    run.scorer.score_answers([Answer(task=tasks[0], output="ant")])
    return run


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def examples_of(run: RoundContext) -> list[Example]:
    """The texts that the round's train stage trains on."""
    store, name = run.workspace.store, run.round.round
    shown = {seed.task.task_id: seed.task for seed in run.seeds}
    examples = training_examples(
        list(store.winners([name])),
        [([shown[demo] for demo in one.demos], one.task) for one in store.tasks(name)],
        run.prompts,
        proposal_share=run.config.training.proposal_share,
        names=(run.config.seed, name, "train"),
    )
    return list(examples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--script-tasks", type=int, default=60, help="how many of them the script answers")
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    silence()
    tasks = read_tasks(asset("data/nano/heldout.jsonl"))[: arguments.tasks]
    answered: dict[str, list[float]] = {"script": [], "flywheel": []}
    trained: dict[str, list[float]] = {"script": [], "flywheel": []}
    script_parts: dict[str, list[float]] = {"generate": [], "score": []}
    stages: dict[str, list[float]] = {Stage.ANSWER: [], Stage.SCORE: [], Stage.SELECT: []}
    with tempfile.TemporaryDirectory() as root:
        workspace, reward = prepare(Path(root), arguments.n)
        script = UsualScript(asset("data/nano/generator"), workspace.locate(reward))
        for repeat in range(arguments.repeats):
            run = fresh_round(workspace, reward, tasks, repeat)
            prompts = [run.prompts.answer(task) for task in tasks[: arguments.script_tasks]]
            most = run.config.sampling.max_tokens
            seconds = timed(partial(script.winners, prompts, arguments.n, most, repeat))
            answered["script"].append(len(prompts) * arguments.n / seconds)
            script_parts["generate"].append(seconds - script.scoring_s)
            script_parts["score"].append(script.scoring_s)
            for stage, work in ((Stage.ANSWER, answer), (Stage.SCORE, score), (Stage.SELECT, select)):
                stages[stage].append(timed(partial(work, run)))
            answered["flywheel"].append(len(tasks) * arguments.n / sum(found[-1] for found in stages.values()))
            examples = examples_of(run)
            seconds = timed(partial(script.train, examples, run.config, Path(root) / "script"))
            trained["script"].append(len(examples) * run.config.training.epochs / seconds)
            seconds = timed(partial(train, run))
            rows = workspace.store.model(workspace.store.rounds()[-1].generator_out or "").facts.rows
            trained["flywheel"].append(rows * run.config.training.epochs / seconds)
    if arguments.json:
        rates = {
            "candidates_per_s": answered,
            "texts_trained_per_s": trained,
            "script_s": script_parts,
            "stages_s": stages,
            "cores": os.cpu_count(),
        }
        print(json.dumps(rates))
        return
    shape = f"{len(tasks)} tasks x {arguments.n} candidates ({arguments.script_tasks} of the tasks for the script)"
    print(f"{shape}, {os.cpu_count()} cores, {platform.machine()}, median of {arguments.repeats} runs")
    show("candidates/s generated, scored and the best picked", answered)
    for name, parts, count in (("script", script_parts, len(prompts)), ("flywheel", stages, len(tasks))):
        each = ", ".join(f"{part} {statistics.median(found):.2f} s" for part, found in parts.items())
        print(f"  {name}, {count} tasks: {each}")
    show(f"texts/s trained, on {len(examples)} texts", trained)


def show(title: str, rates: dict[str, list[float]]) -> None:
    print(title)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    for name, found in rates.items():
        spread = f"{min(found):,.0f} to {max(found):,.0f}"
        print(f"  {name:<12} {medians[name]:>8,.0f}  ({spread})  {medians[name] / medians['script']:5.1f}x")


if __name__ == "__main__":
    main()
