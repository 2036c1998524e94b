"""How Ctrl-C and SIGTERM end a command: without a traceback, and with what is finished kept."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import typer

from flywheel.core.interrupts import finishing_chunks
from flywheel.errors import RESUME, Interrupted, Stopped


@contextmanager
def interruptible(hint: str = RESUME) -> Iterator[None]:
    """Turn a Ctrl-C, which stops at once, into Interrupted."""
    try:
        yield
    except (Stopped, SystemExit):
        raise
    except BaseException as error:
        cause: BaseException | None = error  # a library that Ctrl-C interrupts may raise an error of its own
        while cause is not None and not isinstance(cause, KeyboardInterrupt):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise Interrupted(int(cause.args[0]) if cause.args else signal.SIGINT, hint) from None


@contextmanager
def finishing() -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM finish the current chunk; a second one stops at once."""
    with interruptible(), finishing_chunks(partial(typer.echo, err=True)):
        yield
