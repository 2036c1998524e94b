"""How a command ends that is stopped: in one line, with what is done kept."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from flywheel.errors import Interrupted
from flywheel.interrupts import finishing_chunks


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C stops at once."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(signal.SIGINT) from None


@contextmanager
def finishing() -> Iterator[None]:
    """Ctrl-C and SIGTERM stop when the chunk at work is kept, a second one at once."""
    with interruptible(), finishing_chunks(lambda line: typer.echo(line, err=True)):
        yield
