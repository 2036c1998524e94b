"""What must go so that a reward model is built anew: what has its folder is not."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.integrity.needed import ancestry
from flywheel.records import Model, ModelKind
from flywheel.workspace import Workspace


def rebuilding(workspace: Workspace, model: Model, models: Sequence[Model]) -> str:
    """How a reward model, or a part of one, is made anew."""
    made_of_it = [one for one in models if one.kind == ModelKind.REWARD and model.model_id in ancestry(models, {one.model_id})]
    there = list(dict.fromkeys(one.path for one in (model, *made_of_it) if workspace.has(one)))
    anew = "build it anew with `flywheel reward build`"
    return f"remove {' and '.join(there)}, then {anew}" if there else anew
