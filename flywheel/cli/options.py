"""What the commands share: options, and the workspace that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flywheel.workspace import Workspace

Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a config key.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Samples = Annotated[int | None, typer.Option("--n", help="Candidates per task.")]


class State:
    """What the options before the command say."""

    workspace = Path("workspace")


def named_workspace() -> Workspace:
    """The workspace that the command line names."""
    from flywheel.workspace import Workspace

    return Workspace(State.workspace)
