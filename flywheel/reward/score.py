"""Reward models by name or folder, in a workspace or outside of one: to score texts, and to examine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flywheel.config import Config
from flywheel.core.quiet import silence
from flywheel.errors import DataError, ModelError
from flywheel.records import ModelKind, Task
from flywheel.reward.answers import refuse_unreadable
from flywheel.reward.build import configured_reward_model
from flywheel.reward.check import Finding, check_reward_model
from flywheel.reward.model import load_scorer
from flywheel.reward.recipe import read_sets
from flywheel.reward.sources import Split
from flywheel.reward.text import Answer
from flywheel.workspace import Workspace

EXAMPLES = [
    Answer(task=Task(instruction=instruction, input="None"), output=output)
    for instruction in ("Name a colour.", "What is the capital of France?", "Write a sentence about rain.")
    for output in ("Red.", "Paris, of course.", "It rains.", "It has been raining since early morning.", "No.")
]
"""Texts for models that come without data."""


def score_texts(workspace: Workspace, name: str, texts: Sequence[str], task: Task | None) -> list[float]:
    """The score of each text: outputs of the task, or whole texts where there is none.

    ``name`` is a recorded model's name or id (the newest of that name), or a folder, which needs no workspace.
    """
    answers = [Answer(task=task, output=text) for text in texts]
    refuse_unreadable(answers)
    if empty := [number for number, text in enumerate(texts, start=1) if not text.strip()]:
        raise DataError(f"text {empty[0]} is empty", "Give a text to score.")
    config = workspace.config() if workspace.exists else None
    folder = find_reward_model(workspace, config, name)
    silence()
    return load_scorer(folder, config).score_answers(answers)


def examine(workspace: Workspace, name: str, overrides: Sequence[str] = ()) -> list[Finding]:
    """Self-test a reward model on the validation rows of the workspace's data.

    Without a workspace there are no labels, and their order is not checked.
    """
    config = workspace.config(overrides) if workspace.exists else None
    folder = find_reward_model(workspace, config, name)
    silence()
    rows = [row for data in read_sets(config).values() for row in data.of(Split.VALIDATION)[:400]] if config else []
    answers = [row.answers[0] for row in rows] or EXAMPLES
    return check_reward_model(lambda: load_scorer(folder, config), answers[:: max(1, len(answers) // 32)], rows)


def find_reward_model(workspace: Workspace, config: Config | None, name: str) -> Path:
    """The folder of a reward model or member: the configured one, else the newest of that name or id, else a folder."""
    if not name.strip():
        raise ModelError("the model's name is empty", "Use merged, a member's name, a model id or a folder.")
    hint = f"Use a folder: there is no workspace at {workspace.folder}."
    if config is not None:
        models = [*workspace.store.models(ModelKind.MEMBER), *workspace.store.models(ModelKind.REWARD)]
        named = [model for model in models if name in (model.name, model.model_id)]
        configured = configured_reward_model(config, workspace) if name == "merged" and named else None
        if configured or named:
            return workspace.locate(configured or named[-1])
        names = ", ".join(dict.fromkeys(model.name for model in models))
        hint = f"Use one of {names}, or a folder." if names else "Build one with `flywheel reward build`."
    if Path(name).is_dir():
        return Path(name)
    raise ModelError(f"no reward model or folder {name!r}", hint)
