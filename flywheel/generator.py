"""The generator at work: the engine that runs it, and the prompts that it reads."""

from __future__ import annotations

from pathlib import Path

from flywheel.config import Config
from flywheel.engines.engine import Engine, load
from flywheel.instructions.text import Prompts
from flywheel.models import chat_format
from flywheel.records import Model
from flywheel.workspace import Workspace


def load_engine(config: Config, workspace: Workspace, model: Model) -> Engine:
    """The configured engine on a recorded generator."""
    settings = config.engine
    if settings.script is not None:
        settings = settings.model_copy(update={"script": str(config.path(settings.script))})
    return load(settings, workspace.locate(model), cache=workspace.models / "converted", digest=model.digest[:12])


def load_prompts(config: Config, generator: Path) -> Prompts:
    """The prompts in the style of the config; raises ModelError where the generator in this folder has no chat template."""
    chat = chat_format(generator, trust_remote_code=config.engine.trust_remote_code) if config.prompt_style == "chat" else None
    return Prompts(config.path(config.prompts), meta_prompt=config.instructions.meta_prompt, chat=chat)
