"""All commands, and what becomes of their errors: parse, call, print. Answers go to stdout, progress to stderr.

Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flywheel.cli import export, report
from flywheel.cli import reading as telling
from flywheel.cli import reward as lab
from flywheel.cli import rounds as wheel
from flywheel.cli import upkeep as care
from flywheel.cli.options import State
from flywheel.cli.stopping import interruptible
from flywheel.core.faults import machine_fault
from flywheel.core.safe_text import visible, without_secrets
from flywheel.errors import FlywheelError, Interrupted, Stopped

AGAIN = "the same command can be given again"
LONGEST_ERROR = 2_000
"""Characters of the line that tells an error."""


class _Commands(TyperGroup):
    """Ctrl-C in a command is told by `run`; else typer says only that it was aborted."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        with interruptible(AGAIN):
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        with interruptible(AGAIN):
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    help="A synthetic-data flywheel using best-of-N.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(wheel.app)
app.add_typer(telling.app)
app.add_typer(export.app)
app.add_typer(report.app)
app.add_typer(care.app)
app.add_typer(lab.app, name="reward")


def _version(asked: bool) -> None:
    if asked:
        from flywheel.core.version import __version__

        typer.echo(f"flywheel {__version__}")
        raise typer.Exit


@app.callback()
def options(
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="Default: $FLYWHEEL_WORKSPACE, else ./workspace.")
    ] = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """A synthetic-data flywheel using best-of-N."""
    State.workspace = workspace or Path(os.environ.get("FLYWHEEL_WORKSPACE") or "workspace")


class _Told(logging.Handler):
    """What the library has to say beside its answers goes to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(record.getMessage(), err=True)


def run() -> None:
    """Run the command line; a FlywheelError and what the machine does become one line and exit code 1."""
    log = logging.getLogger("flywheel")
    log.handlers, log.propagate = [_Told()], False
    try:
        app()
    except Stopped as stopped:
        typer.echo(f"stopped: {_fit(str(stopped))}", err=True)
        raise SystemExit(128 + stopped.signal if isinstance(stopped, Interrupted) else 1) from None
    except FlywheelError as error:
        _tell(error.message, error.hint)
    except Exception as error:
        told = machine_fault(error)
        if told is None:
            raise
        _tell(told)


def _tell(error: str, hint: str = "") -> None:
    typer.echo(f"error: {_fit(error)}", err=True)
    if hint:
        typer.echo(f"hint: {_fit(hint)}", err=True)
    raise SystemExit(1) from None


def _fit(text: str) -> str:
    """What an error says in one line; it may quote files, models and servers."""
    line = visible(without_secrets(" ".join(text.split())))
    return line if len(line) <= LONGEST_ERROR else f"{line[: LONGEST_ERROR - 1]}…"
