"""What an engine is, and which one a configuration asks for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flywheel.config import EngineConfig
from flywheel.errors import ConfigError
from flywheel.records import Completion, FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How texts are drawn. Temperature must be above 0."""

    temperature: float
    top_p: float
    max_tokens: int
    stop: tuple[str, ...] = ()
    """The text ends before the first of these; the text before it counts as finished."""


class Engine(Protocol):
    """Runs one generator."""

    name: str

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """Return n completions of each prompt, in the order of the prompts.

        The same model, prompts, n, sampling and seed give the same completions, on any number of workers.
        """
        ...


def cut_at_stop(text: str, stop: Sequence[str], finish_reason: FinishReason) -> tuple[str, FinishReason]:
    """The text before the first stop string, which counts as the model's own end."""
    positions = [position for position in (text.find(string) for string in stop) if position >= 0]
    return (text[: min(positions)], FinishReason.STOP) if positions else (text, finish_reason)


def choose(config: EngineConfig) -> str:
    """The name of the engine that ``auto`` stands for on this machine."""
    if config.name != "auto":
        return config.name
    return "ctranslate2" if device(config) == "cpu" else "transformers"


def device(config: EngineConfig) -> str:
    """The torch device that ``auto`` stands for; raises ConfigError where the one asked for is absent."""
    import torch

    if config.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"engine.device is {config.device!r}, but torch sees no GPU; set it to cpu or auto")
    return config.device


def load(config: EngineConfig, model: Path, *, cache: Path, digest: str) -> Engine:
    """Start the engine on a generator's folder.

    ``cache`` is a folder for converted weights, ``digest`` names the generator's weights in it.
    """
    if config.script is not None:
        from flywheel.engines.scripted_engine import ScriptedEngine

        return ScriptedEngine(Path(config.script))
    if choose(config) == "ctranslate2":
        from flywheel.engines.ctranslate2_engine import CTranslate2Engine

        return CTranslate2Engine(model, config, cache=cache, digest=digest)
    from flywheel.engines.transformers_engine import TransformersEngine

    return TransformersEngine(model, config)


def workers(config: EngineConfig) -> int:
    """How many texts are written at once: the cores this process may use, unless the config says otherwise."""
    if config.workers:
        return config.workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
