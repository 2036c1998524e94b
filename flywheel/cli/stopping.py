"""How a command ends that is stopped: in one line, with what is done kept."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from flywheel.core.interrupts import finishing_chunks
from flywheel.errors import RESUME, Interrupted, Stopped


@contextmanager
def interruptible(said: str = RESUME) -> Iterator[None]:
    """Ctrl-C stops at once, which is told with these words."""
    try:
        yield
    except (Stopped, SystemExit):
        raise
    except BaseException as error:
        if (number := signal_behind(error)) is None:
            raise
        raise Interrupted(number, said) from None


def signal_behind(error: BaseException) -> int | None:
    """The signal that an error comes from: a library may raise one of its own where Ctrl-C strikes it."""
    seen: set[int] = set()
    behind: BaseException | None = error
    while behind is not None and id(behind) not in seen:
        if isinstance(behind, KeyboardInterrupt):
            return int(behind.args[0]) if behind.args else signal.SIGINT
        seen.add(id(behind))
        behind = behind.__cause__ or behind.__context__
    return None


@contextmanager
def finishing() -> Iterator[None]:
    """Ctrl-C and SIGTERM stop when the chunk at work is kept, a second one at once."""
    with interruptible(), finishing_chunks(lambda line: typer.echo(line, err=True)):
        yield
