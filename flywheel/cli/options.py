"""What the commands share: options, and the workspace that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flywheel.api import Flywheel
    from flywheel.workspace import Workspace

Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a config key.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Samples = Annotated[int | None, typer.Option("--n", help="Candidates per task.")]
RoundName = Annotated[str, typer.Argument(metavar="ROUND", help="A round such as r2, or a control such as r2-random.")]
Instruction = Annotated[str, typer.Argument(metavar="INSTRUCTION", help="The instruction of the task.")]
Input = Annotated[str, typer.Option("--input", help="The input of the task.")]
Constraints = Annotated[str, typer.Option("--constraints", help="The constraints on the output.")]


class State:
    """What the options before the command say."""

    workspace = Path("workspace")


def opened(overrides: list[str] | None = None) -> Flywheel:
    """The workspace that the command line names; it need not exist yet."""
    from flywheel.api import Flywheel

    return Flywheel(State.workspace, overrides=overrides or [])


def named_workspace() -> Workspace:
    """The folder of the workspace that the command line names."""
    return opened().workspace
