"""Tasks as text and back: what goes into a prompt, and what a model wrote after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    Template,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
)
from jinja2.sandbox import SandboxedEnvironment

from flywheel.errors import ConfigError
from flywheel.records import Task


def templates(folder: Path) -> Environment:
    """The Jinja environment of a folder of prompts."""
    return SandboxedEnvironment(
        loader=FileSystemLoader(folder), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )


class Prompts:
    """The prompts of a run: one that asks for a new task, one that asks for an output."""

    def __init__(self, folder: Path) -> None:
        environment = templates(folder)
        try:
            self._propose = environment.get_template("propose.jinja")
            self._answer = environment.get_template("answer.jinja")
        except TemplateNotFound as error:
            raise ConfigError(f"no template {error.name} in {folder}; mend prompts in the config") from None
        except TemplateSyntaxError as error:
            raise ConfigError(f"{folder / str(error.name)} line {error.lineno}: {error.message}; mend the template") from None

    def propose(self, demos: Sequence[Task]) -> str:
        """The prompt that shows the demos without outputs and leaves the next example open."""
        return _render(self._propose, demos=demos)

    def answer(self, task: Task) -> str:
        """The prompt that asks for the output of a task."""
        return _render(self._answer, task=task)


def _render(template: Template, **values: object) -> str:
    try:
        return template.render(**values)
    except TemplateError as error:
        raise ConfigError(f"{template.filename}: {error.message}; mend the template") from None


FIELDS = ("Instruction", "Input", "Constraints")


def format_task(task: Task) -> str:
    """A task as the open example of the propose prompt continues: right after ``Instruction:``."""
    return f"{task.instruction}\nInput: {task.input}\nConstraints: {task.constraints}"
