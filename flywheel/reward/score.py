"""Score texts by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flywheel.errors import DataError, ModelError
from flywheel.models import check_model
from flywheel.quiet import silence
from flywheel.records import ModelKind, Task
from flywheel.reward.build import load_scorer
from flywheel.reward.text import Answer
from flywheel.workspace import Workspace


def score_texts(workspace: Workspace, name: str, texts: Sequence[str], task: Task | None) -> list[float]:
    """What a reward model gives each text: outputs of the task, or whole texts where there is none.

    ``name`` is a recorded model's name or id (the newest of that name), or a folder.
    """
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise DataError(f"text {number} is empty; there is nothing to score")
    config = workspace.config()
    folder = _find(workspace, name)
    check_model(folder)
    silence()
    scorer = load_scorer(folder, config)
    if task is None:
        return scorer.score_texts(texts)
    return scorer.score([Answer(task=task, output=text) for text in texts])


def _find(workspace: Workspace, name: str) -> Path:
    recorded = [*workspace.store.models(ModelKind.MEMBER), *workspace.store.models(ModelKind.REWARD)]
    found = [model for model in recorded if name in (model.name, model.model_id)]
    if found:
        return workspace.locate(found[-1])
    if Path(name).is_dir():
        return Path(name)
    known = ", ".join(dict.fromkeys(model.name for model in recorded)) or "none yet; run `flywheel reward build`"
    raise ModelError(f"no reward model or folder {name!r}; there are {known}")
