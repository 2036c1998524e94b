"""Chooses an engine for a configuration, and starts it. Engine modules are imported on use."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from flywheel.config import EngineConfig
from flywheel.engines.contract import Engine
from flywheel.engines.machine import device


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """An engine, and why it was chosen."""

    name: str
    why: str


def choose(config: EngineConfig, model: Path | None) -> Choice:
    """The engine for a generator's folder (None behind an endpoint): the configured one, or what ``auto`` stands for here.

    Raises ConfigError for a device that this machine does not have.
    """
    if config.name != "auto" or model is None:
        return Choice(name=config.name, why=f"Set by `engine.name: {config.name}`.")
    if device(config) != "cpu":
        if find_spec("vllm"):
            return Choice(name="vllm", why="GPU found; using vLLM.")
        why = "GPU found; using transformers. vLLM is faster: `pip install 'flywheel-bon[vllm]'`."
        return Choice(name="transformers", why=why)
    from flywheel.engines.ctranslate2_engine import converts

    if converts(model, trust_remote_code=config.trust_remote_code):
        found = "No GPU found" if config.device == "auto" else f"Set by `engine.device: {config.device}`"
        return Choice(name="ctranslate2", why=f"{found}; using CTranslate2 on CPU.")
    kind = json.loads((model / "config.json").read_text(encoding="utf-8")).get("model_type", "?")
    return Choice(name="transformers", why=f"CTranslate2 does not support {kind} models; using transformers on CPU.")


def check(config: EngineConfig, model: Path | None) -> None:
    """Raise for an engine that could not start on a generator's folder (None behind an endpoint)."""
    name = choose(config, model).name
    if name == "openai":
        from flywheel.engines import openai_engine  # noqa: F401 - raises where its package is missing

        return
    device(config)
    if name == "ctranslate2":
        from flywheel.engines.ctranslate2_engine import check_machine

        check_machine(config)
    elif name == "vllm":
        from flywheel.engines.vllm_engine import check_release

        check_release()


def load(config: EngineConfig, model: Path, *, cache: Path, digest: str) -> Engine:
    """Start the engine on a generator's folder; ``cache`` is for converted weights, filed under the ``digest`` of the model."""
    name = choose(config, model).name
    if name == "ctranslate2":
        from flywheel.engines.ctranslate2_engine import CTranslate2Engine

        return CTranslate2Engine(model, config, cache=cache, digest=digest)
    if name == "vllm":
        from flywheel.engines.vllm_engine import VLLMEngine

        return VLLMEngine(model, config)
    from flywheel.engines.transformers_engine import TransformersEngine

    return TransformersEngine(model, config)
