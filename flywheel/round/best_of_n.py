"""Best-of-N over given prompts: N outputs of a generator for each, ranked by a reward model. No round, nothing is stored."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.config import Config, EngineConfig, parse
from flywheel.core.assets import asset
from flywheel.core.files import digest_model
from flywheel.core.model_folders import chat_format, local_folder
from flywheel.core.quiet import silence
from flywheel.core.seeds import derive
from flywheel.engines.contract import Engine, Sampling
from flywheel.engines.factory import load
from flywheel.engines.generator import load_engine, sampling_of
from flywheel.errors import ConfigError, DataError, ModelError, StoreError
from flywheel.instructions.prompts import Prompts, load_prompts
from flywheel.records import Completion, FinishReason, Task
from flywheel.reward.model import RewardModel, load_scorer
from flywheel.workers.work import Work, score
from flywheel.workspace import Workspace

Reward = Callable[[Sequence[str | Task], Sequence[str]], Sequence[float]]
"""Takes prompts and outputs of equal number; returns a number for each, higher is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """An output with its reward."""

    completion: Completion
    reward: float

    @property
    def output(self) -> str:
        return self.completion.text.strip()

    @property
    def finished(self) -> bool:
        """Whether the model ended the text itself; one that was cut never wins."""
        return self.completion.finish_reason == FinishReason.STOP


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfN:
    """A prompt with its N outputs."""

    prompt: str | Task
    candidates: tuple[Ranked, ...]
    """Best first; those that were cut at the token limit last."""

    @property
    def winner(self) -> Ranked | None:
        """The best finished output; None where all were cut."""
        return next((candidate for candidate in self.candidates if candidate.finished), None)


def best_of_n(
    prompts: Sequence[str | Task],
    model: str | Path,
    reward: RewardModel | Reward,
    n: int = 4,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_tokens: int = 256,
    seed: int = 0,
    engine: str = "auto",
    address: str | None = None,
    cache: str | Path | None = None,
) -> list[BestOfN]:
    """N outputs of any model for each prompt, ranked by a reward model or a function of prompts and outputs.

    ``model`` is a folder or hub id, or the name of a model that an OpenAI-compatible server serves at ``address``, such as
    http://localhost:8080/v1. A prompt is put into the model's chat template if it has one; a Task is rendered by flywheel's
    own templates first. Converted weights are kept in ``cache``, by default in a temporary folder of this machine.
    """
    if isinstance(prompts, str) or not all(isinstance(prompt, str | Task) for prompt in prompts):
        raise DataError("prompts must be a list of texts or tasks", "Put a single prompt into a list.")
    if not callable(reward) and not hasattr(reward, "score"):
        raise DataError(f"reward must be a reward model or a function, got {reward!r}", "Pass `RewardModel.load(folder)`.")
    for name, value in (("n", n), ("temperature", temperature), ("max_tokens", max_tokens)):
        if not value > 0:
            raise ConfigError(f"{name} = {value} must be above 0", f"Pass a positive {name}.")
    silence()
    if address is not None:
        from flywheel.engines.openai_engine import OpenAIEngine

        settings = parse(EngineConfig, {"name": "openai", "endpoint": {"base_url": address}}, "engine")
        loaded: Any = OpenAIEngine(str(model), settings, chat=True)
        chat: Callable[[str], str] | None = str
    else:
        if str(model).endswith(".gguf"):
            raise ModelError(
                f"{model} is a GGUF file, which no engine loads", "Serve it with llama.cpp and pass the server's `address`."
            )
        settings = parse(EngineConfig, {"name": engine}, "engine")
        folder = local_folder(str(model))
        converted = Path(cache) if cache else Path(tempfile.gettempdir()) / f"flywheel-{os.getuid()}" / "converted"
        loaded = load(settings, folder, cache=converted, digest=digest_model(folder)[:12])
        chat = chat_format(folder)
    templates = Prompts(asset("prompts"), chat=chat)
    texts = [templates.answer(prompt) if isinstance(prompt, Task) else chat(prompt) if chat else prompt for prompt in prompts]
    sampling = Sampling(temperature=temperature, top_p=top_p, max_tokens=max_tokens)
    completions = _generate(loaded, texts, n=n, sampling=sampling, seed=seed, chunk=settings.chunk)
    outputs = [completion.text.strip() for group in completions for completion in group]
    function = reward if callable(reward) else reward.score
    return _ranked(prompts, completions, function([prompt for prompt in prompts for _ in range(n)], outputs))


def sample(workspace: Workspace, config: Config, tasks: Sequence[Task]) -> list[BestOfN]:
    """Best-of-N with the generator and the reward model of the latest finished round; raises StoreError where there is none."""
    silence()
    done = [row for row in workspace.store.rounds() if row.status == "done"]
    if not done or done[-1].generator_out is None or done[-1].reward_model is None:
        raise StoreError(f"{workspace.folder} has no finished round", "Run `flywheel round` first.")
    generator, reward = (workspace.store.model(model) for model in (done[-1].generator_out, done[-1].reward_model))
    workspace.refuse_altered([generator, reward])
    prompts = load_prompts(config, workspace, generator)
    completions = _generate(
        load_engine(config, workspace, generator), [prompts.answer(task) for task in tasks],
        n=config.sampling.n, sampling=sampling_of(config), seed=config.seed, chunk=config.engine.chunk,
    )  # fmt: skip
    work = score(Work(tasks=tasks, completions=completions), load_scorer(workspace.locate(reward), config))
    return _ranked(tasks, completions, work.scores)


def _generate(
    engine: Engine, texts: Sequence[str], *, n: int, sampling: Sampling, seed: int, chunk: int
) -> list[list[Completion]]:
    """N completions of each text, ``chunk`` texts at a time; the engine is closed, so that the reward model has its memory."""
    with closing(engine):
        return [
            group
            for number, start in enumerate(range(0, len(texts), chunk))
            for group in engine.generate(texts[start : start + chunk], n=n, sampling=sampling, seed=derive(seed, number))
        ]


def _ranked(
    prompts: Sequence[str | Task], completions: Sequence[Sequence[Completion]], rewards: Sequence[float]
) -> list[BestOfN]:
    """Rank the completions of each prompt by their rewards; raises DataError where there is not one for each."""
    total, hint = sum(map(len, completions)), "Return one finite number per output."
    try:
        values = [float(reward) for reward in rewards]
    except (TypeError, ValueError) as error:
        raise DataError(f"the reward function must return a list of numbers: {error}", hint) from None
    if len(values) != total:
        raise DataError(f"the reward function returned {len(values)} values for {total} outputs", hint)
    if not all(map(math.isfinite, values)):
        raise DataError("the reward function returned a NaN or infinite value", hint)
    left = iter(values)
    ranked = [[Ranked(completion=completion, reward=next(left)) for completion in group] for group in completions]
    return [
        BestOfN(prompt=prompt, candidates=tuple(sorted(group, key=lambda row: (row.finished, row.reward), reverse=True)))
        for prompt, group in zip(prompts, ranked, strict=True)
    ]
