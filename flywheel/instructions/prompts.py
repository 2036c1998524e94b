"""Tasks as text: the prompts that a generator reads, from Jinja templates.

A template that is not in the user's folder comes from flywheel's own. In the completion style a prompt is
plain text that the generator continues; in the chat style it is a user message in the chat template of the
generator's tokenizer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from jinja2 import ChoiceLoader, FileSystemLoader, StrictUndefined, Template, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from flywheel.config import Config
from flywheel.core.assets import asset
from flywheel.core.functions import reason_of
from flywheel.core.model_folders import chat_format
from flywheel.engines.generator import ENDPOINT
from flywheel.errors import ConfigError, ModelError
from flywheel.records import Model, Reworded, Task
from flywheel.workspace import Workspace

FIX_TEMPLATE = "Fix the template."


class Prompts:
    """The prompts of a run: for a new task, for an output, for a paraphrase, for a judgement."""

    def __init__(self, folder: Path, *, meta_prompt: str = "enumerated", chat: Callable[[str], str] | None = None) -> None:
        """Read the templates of a folder; ``chat`` puts a user message into a generator's chat template.

        Raises ConfigError for a missing folder and for a broken template.
        """
        if not folder.is_dir():
            raise ConfigError(f"prompt folder {folder} not found", "Set `prompts` to an existing folder.")
        self._loader = ChoiceLoader([FileSystemLoader(folder), FileSystemLoader(asset("prompts"))])
        self._environment = ImmutableSandboxedEnvironment(
            loader=self._loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
        )
        self._folder, self._chat = folder, chat
        self.chat = chat is not None
        propose = "propose" if meta_prompt == "enumerated" else f"propose-{meta_prompt}"
        style = "chat/" if chat else ""
        self._names = {"answer": f"{style}answer.jinja", "paraphrase": f"{style}paraphrase.jinja"}
        self._names |= {"propose": f"{style}{propose}.jinja", "judge": "judge.jinja"}
        self._templates = {purpose: self._template(name) for purpose, name in self._names.items()}

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the templates that a generator reads, and over a prompt as the chat template renders it."""
        names = sorted(name for purpose, name in self._names.items() if purpose != "judge")
        sources = [self._loader.get_source(self._environment, name)[0] for name in names]
        example = [self._chat("text")] if self._chat else []
        return hashlib.sha256("\0".join([*sources, *example]).encode()).hexdigest()

    def propose(self, demos: Sequence[Task]) -> str:
        """The prompt that shows the demos without outputs and leaves the next example open."""
        return self._render("propose", demos=demos)

    def answer(self, task: Task) -> str:
        """The prompt that asks for the output of a task."""
        return self._render("answer", task=task)

    def paraphrase(self, task: Task, demos: Sequence[Reworded]) -> str:
        """The prompt that asks for another wording of a task's instruction."""
        return self._render("paraphrase", task=task, demos=demos)

    def judge(self, task: Task, first: str, second: str) -> str:
        """The prompt that asks a judge which of two outputs is better."""
        return self._render("judge", task=task, first=first, second=second)

    def output(self, text: str) -> str:
        """An output as it follows its prompt."""
        return text.strip() if self.chat else f" {text.strip()}"

    def written(self, task: Task) -> str:
        """A task as it follows the prompt that asks for one."""
        return f"Instruction: {format_task(task)}" if self.chat else f" {format_task(task)}"

    def _template(self, name: str) -> Template:
        if (self._folder / name).is_dir():
            raise ConfigError(f"template {self._folder / name} is a folder", "Move or remove the folder.")
        try:
            return self._environment.get_template(name)
        except TemplateSyntaxError as error:
            raise ConfigError(f"syntax error in {error.filename}, line {error.lineno}: {error.message}", FIX_TEMPLATE) from None
        except (OSError, UnicodeDecodeError) as error:
            hint = "Make the template a readable UTF-8 file."
            raise ConfigError(f"cannot read template {self._folder / name}: {error}", hint) from None

    def _render(self, purpose: str, **values: object) -> str:
        template = self._templates[purpose]
        try:
            text = template.render(**values)
        except Exception as error:  # whatever the user's template does
            raise ConfigError(f"template {template.filename} failed with {reason_of(error)}", FIX_TEMPLATE) from None
        if not text.strip():
            raise ConfigError(f"template {template.filename} renders an empty prompt", FIX_TEMPLATE)
        return self._chat(text.strip()) if self._chat else text


def load_prompts(config: Config, workspace: Workspace, model: Model) -> Prompts:
    """The prompts of a recorded model; raises as `prompts_of`."""
    # Only a chat template is in the model's folder, which may be pruned.
    elsewhere = model.path.startswith(ENDPOINT) or config.prompt_style != "chat"
    return prompts_of(config, None if elsewhere else workspace.locate(model))


def prompts_of(config: Config, folder: Path | None) -> Prompts:
    """The prompts of a model; ``folder`` is None for a model behind an endpoint.

    Raises ModelError where the style is chat and a generator has no chat template; a student without one reads plain text.
    """
    template: Callable[[str], str] | None = None
    if config.prompt_style == "chat" and folder is None:
        template = str  # unchanged: the server has the template
    elif config.prompt_style == "chat" and folder is not None:
        template = chat_format(folder, arguments=config.chat_arguments, trust_remote_code=config.engine.trust_remote_code)
        if template is None and config.engine.name != "openai":
            raise ModelError(f"the tokenizer of {folder} has no chat template", "Set `prompt_style` to completion.")
    return Prompts(config.path(config.prompts), meta_prompt=config.instructions.meta_prompt, chat=template)


def template_file(folder: Path, name: str) -> Path:
    """The file that a template is read from: the user's, or flywheel's own."""
    own = folder / name
    return own if own.is_file() else asset("prompts") / name


def format_task(task: Task) -> str:
    """A task as it continues the open example of the propose prompt, after ``Instruction:``."""
    return f"{task.instruction}\nInput: {task.input}\nConstraints: {task.constraints}"
