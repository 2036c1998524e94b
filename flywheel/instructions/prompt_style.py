"""The prompts that a generator reads, in the style of the config: plain text, or its chat template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flywheel.config import Config
from flywheel.core.model_folders import chat_format, has_chat_format
from flywheel.engines.generator import ENDPOINT
from flywheel.instructions.prompts import Prompts
from flywheel.records import Model
from flywheel.workspace import Workspace


def load_prompts(config: Config, workspace: Workspace, model: Model) -> Prompts:
    """The prompts of a recorded model; raises as `prompts_of`."""
    # Only a chat template is in the model's folder, which may be pruned.
    elsewhere = model.path.startswith(ENDPOINT) or config.prompt_style != "chat"
    return prompts_of(config, None if elsewhere else workspace.locate(model))


def prompts_of(config: Config, folder: Path | None) -> Prompts:
    """The prompts of a model; ``folder`` is None for a model behind an endpoint.

    Raises ModelError where the style is chat and a generator has no chat template; a student without one reads plain text.
    """
    trust, chat = config.engine.trust_remote_code, config.prompt_style == "chat"
    template: Callable[[str], str] | None = None
    if chat and folder is None:
        template = str  # unchanged: the server has the template
    elif chat and folder is not None and (config.engine.name != "openai" or has_chat_format(folder, trust_remote_code=trust)):
        template = chat_format(folder, arguments=config.chat_arguments, trust_remote_code=trust)
    return Prompts(config.path(config.prompts), meta_prompt=config.instructions.meta_prompt, chat=template)
