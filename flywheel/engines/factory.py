"""Which engine a configuration asks for, and its start. Engine modules are imported on use."""

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
    """An engine and the reason for it."""

    name: str
    why: str


def choose(config: EngineConfig, model: Path) -> Choice:
    """The engine that runs a generator's folder on this machine: the configured one, or what ``auto`` stands for.

    Raises ConfigError for a device that is absent.
    """
    if config.name != "auto":
        return Choice(name=config.name, why="engine.name says so")
    if device(config) != "cpu":
        if find_spec("vllm"):
            return Choice(name="vllm", why="there is a GPU, and vllm is installed")
        return Choice(name="transformers", why="there is a GPU; vllm would be faster: pip install 'flywheel[vllm]'")
    from flywheel.engines.ctranslate2_engine import converts

    kind = json.loads((model / "config.json").read_text(encoding="utf-8")).get("model_type", "?")
    if converts(model, trust_remote_code=config.trust_remote_code):
        return Choice(name="ctranslate2", why="no GPU, and CTranslate2 is fastest on a CPU")
    return Choice(name="transformers", why=f"no GPU, and CTranslate2 does not know {kind} models")


def check(config: EngineConfig, model: Path | None) -> None:
    """Raise for an engine that could not start on a generator's folder (None behind an endpoint), before work is begun."""
    if config.name == "openai":
        from flywheel.engines import openai_engine  # noqa: F401 - raises where its package is missing

        return
    if config.name == "scripted" or model is None:
        return
    device(config)
    name = choose(config, model).name
    if name == "vllm":
        from flywheel.engines.vllm_engine import refuse_other_releases

        refuse_other_releases()
    elif name == "ctranslate2":
        from flywheel.engines.ctranslate2_engine import refuse_what_is_not_here

        refuse_what_is_not_here(config)


def load(config: EngineConfig, model: Path, *, cache: Path, digest: str) -> Engine:
    """Start the engine on a generator's folder.

    ``cache`` is a folder for converted weights, ``digest`` names the generator's weights in it.
    """
    if config.script is not None:
        from flywheel.engines.scripted_engine import ScriptedEngine

        return ScriptedEngine(Path(config.script))
    name = choose(config, model).name
    if name == "ctranslate2":
        from flywheel.engines.ctranslate2_engine import CTranslate2Engine

        return CTranslate2Engine(model, config, cache=cache, digest=digest)
    if name == "vllm":
        from flywheel.engines.vllm_engine import VLLMEngine

        return VLLMEngine(model, config)
    from flywheel.engines.transformers_engine import TransformersEngine

    return TransformersEngine(model, config)
