"""All commands, and how their errors are printed. Answers go to stdout, progress and errors to stderr.

Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flywheel.cli import export, reading, report, reward, rounds, upkeep
from flywheel.cli.options import State
from flywheel.cli.stopping import interruptible
from flywheel.core.faults import machine_fault
from flywheel.core.safe_text import visible, without_secrets
from flywheel.errors import FlywheelError, Interrupted, Stopped

AGAIN = "Run the same command again."
LONGEST_ERROR = 2_000
"""Characters of a line that reports an error."""


class _Commands(TyperGroup):
    """Turns Ctrl-C into Interrupted, which `run` reports; typer would only print that it aborted."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        with interruptible(AGAIN):
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        with interruptible(AGAIN):
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (rounds, reading, export, report, upkeep):
    app.add_typer(commands.app)
app.add_typer(reward.app, name="reward")


def _version(asked: bool) -> None:
    if asked:
        from flywheel.core.version import __version__

        typer.echo(f"flywheel {__version__}")
        raise typer.Exit


@app.callback()
def options(
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="Workspace folder; default: $FLYWHEEL_WORKSPACE or ./workspace.")
    ] = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """A synthetic-data flywheel with best-of-N sampling."""
    State.workspace = workspace or Path(os.environ.get("FLYWHEEL_WORKSPACE") or "workspace")


def run() -> None:
    """Run the command line; a FlywheelError or a fault of the machine becomes two lines and exit code 1."""
    log = logging.getLogger("flywheel")
    log.handlers, log.propagate = [logging.StreamHandler()], False
    try:
        app()
    except Stopped as stopped:
        _end("stopped", stopped, 128 + stopped.signal if isinstance(stopped, Interrupted) else 1)
    except FlywheelError as error:
        _end("error", error, 1)
    except Exception as error:
        if (fault := machine_fault(error)) is None:
            raise
        _end("error", fault, 1)


def _end(kind: str, error: FlywheelError, code: int) -> None:
    typer.echo(f"{kind}: {_fit(error.message)}", err=True)
    if error.hint:
        typer.echo(f"hint: {_fit(error.hint)}", err=True)
    raise SystemExit(code) from None


def _fit(text: str) -> str:
    """A text as one line that is safe to print: it may quote files, models and servers."""
    line = visible(without_secrets(" ".join(text.split())))
    return line if len(line) <= LONGEST_ERROR else f"{line[: LONGEST_ERROR - 1]}…"
