"""Score texts by hand, and examine a model by name or folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flywheel.config import Config
from flywheel.core.files import encodable
from flywheel.core.quiet import silence
from flywheel.errors import DataError, ModelError
from flywheel.records import ModelKind, Task
from flywheel.reward.build import configured_reward_model
from flywheel.reward.check import Finding, check_reward_model
from flywheel.reward.model import RewardModel, load_scorer
from flywheel.reward.recipe import read_sets
from flywheel.reward.sources import Split
from flywheel.reward.text import Answer
from flywheel.workspace import Workspace


def score_texts(workspace: Workspace, name: str, texts: Sequence[str], task: Task | None) -> list[float]:
    """What a reward model gives each text: outputs of the task, or whole texts where there is none.

    ``name`` is a recorded model's name or id (the newest of that name), or a folder, which needs no workspace.
    """
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise DataError(f"text {number} is empty; there is nothing to score")
        if not encodable(text) or (task and not encodable(f"{task.instruction}{task.input}{task.constraints}")):
            raise DataError(f"text {number} or its task is not UTF-8; mend its characters")
    config = workspace.config() if workspace.exists else None
    folder = find_reward_model(workspace, config, name)
    silence()
    return _load(folder, config).score([Answer(task=task, output=text) for text in texts])


def examine(workspace: Workspace, name: str, overrides: Sequence[str] = ()) -> list[Finding]:
    """Self-test a reward model on the validation rows of the workspace's data.

    Without a workspace there are no labels, and their order stays unchecked.
    """
    config = workspace.config(overrides) if workspace.exists else None
    folder = find_reward_model(workspace, config, name)
    silence()
    rows = [row for one in read_sets(config).values() for row in one.of(Split.VALIDATION)[:400]] if config else []
    answers = [row.answers[0] for row in rows] or EXAMPLES
    return check_reward_model(lambda: _load(folder, config), answers[:: max(1, len(answers) // 32)], rows)


EXAMPLES = [
    Answer(task=Task(instruction=instruction, input="None"), output=output)
    for instruction in ("Name a colour.", "What is the capital of France?", "Write a sentence about rain.")
    for output in (
        "Red.",
        "Paris, of course.",
        "It rains.",
        "It has been raining since the early morning, and nobody minds.",
        "No.",
    )
]
"""Texts for models that come without data."""


def _load(folder: Path, config: Config | None) -> RewardModel:
    return load_scorer(folder, config) if config else RewardModel(folder)


def find_reward_model(workspace: Workspace, config: Config | None, name: str) -> Path:
    """The folder of a reward model or member: the configured one, else the newest of that name or id, else a folder."""
    if not name.strip():
        raise ModelError("the model's name is empty; name merged, a member, a model id or a folder")
    if config is None:
        if Path(name).is_dir():
            return Path(name)
        raise ModelError(f"no folder {name!r}, and no workspace at {workspace.folder} that could have a model of that name")
    recorded = [*workspace.store.models(ModelKind.MEMBER), *workspace.store.models(ModelKind.REWARD)]
    found = [model for model in recorded if name in (model.name, model.model_id)]
    configured = configured_reward_model(config, workspace) if name == "merged" and found else None
    if configured or found:
        return workspace.locate(configured or found[-1])
    if Path(name).is_dir():
        return Path(name)
    known = ", ".join(dict.fromkeys(model.name for model in recorded)) or "none yet; run `flywheel reward build`"
    raise ModelError(f"no reward model or folder {name!r}; there are {known}")
