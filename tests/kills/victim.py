"""Commands run in children of a warm process, which has done the imports: killed at a moment, or left to end."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flywheel.cli import main
from tests.kills.trace import Entered, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When to kill: so many seconds after a place is entered."""

    place: str
    seconds: float


@dataclass(slots=True, kw_only=True)
class Ended:
    """How a command ended, and what it told."""

    status: int = 0
    killed_in: str | None = None
    """The innermost place it was in when it was killed; None where nobody killed it."""
    chunks: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    """By place that was left: how long it took."""


def run(arguments: list[str], output: Path, *, kill: Moment | None = None, entered: Entered = lambda place: None) -> Ended:
    """Run `flywheel` with these arguments in a child; ``entered`` is called there as `Trace` does."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_flywheel(arguments, output, writing, entered)
    os.close(writing)
    ended = _watch(child, reading, kill)
    os.close(reading)
    return ended


def _be_flywheel(arguments: list[str], output: Path, pipe: int, entered: Entered) -> None:
    os.setsid()
    with output.open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    code = 0
    try:
        Trace(pipe, entered).install()
        sys.argv = ["flywheel", *arguments]
        main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _watch(child: int, pipe: int, kill: Moment | None) -> Ended:
    ended, open_places, begun = Ended(), [], {}  # type: ignore[var-annotated]
    deadline: float | None = None
    rest = b""
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if left == 0.0 or not select.select([pipe], [], [], left)[0]:
            os.killpg(child, signal.SIGKILL)
            ended.killed_in, deadline = open_places[-1] if open_places else "between places", None
            continue
        if not (read := os.read(pipe, 1 << 16)):
            break
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            kind, what, when = json.loads(line)
            if kind == "chunk":
                ended.chunks[what] += 1
            elif kind == "enter":
                open_places.append(what)
                begun[what] = when
                if kill and kill.place == what:
                    deadline = when + kill.seconds
            else:
                open_places.remove(what)
                ended.seconds[what] = when - begun[what]
                if ended.killed_in == what:  # it left the place before the signal came
                    ended.killed_in = open_places[-1] if open_places else "between places"
    ended.status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended.status != -signal.SIGKILL:
        ended.killed_in = None
    return ended


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns as JSON, called in a child, so that this process stays without threads."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            with os.fdopen(writing, "w") as pipe:
                json.dump(function(*arguments), pipe)
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, f"{function.__name__} failed"
    return json.loads(text)
