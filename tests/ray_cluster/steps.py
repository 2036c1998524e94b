"""Workers that do what real ones rarely do."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from flywheel.errors import DataError, EngineError
from flywheel.workers.pools import Handler, start_engine
from flywheel.workers.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Gives each chunk its own number as its score; the chunk with the number ``at`` meets trouble."""

    at: int = -1
    kind: str = "none"
    seconds: float = 0.0

    def start(self) -> Handler:
        if self.kind == "missing":
            raise EngineError("No such model.", "Get it.")
        if self.kind == "cannot":
            raise MemoryError("no room for the weights")
        if self.kind == "dies at start":
            os.kill(os.getpid(), signal.SIGKILL)

        def do(work: Work) -> Work:
            number = int(work.tasks[0].input)
            time.sleep(self.seconds)
            if number == self.at and self.kind == "raises":
                raise ValueError("no such luck")
            if number == self.at and self.kind == "ours":
                raise DataError("The file is broken.", "Fix it.")
            if number == self.at and self.kind == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            return replace(work, scores=[*work.scores, float(number)])

        return do


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """A real worker that takes its time, and leaves the name of its node in a folder."""

    start_worker: Callable[[], Handler]
    seconds: float
    nodes: Path

    def start(self) -> Handler:
        import ray

        started = self.start_worker()
        (self.nodes / ray.get_runtime_context().get_node_id()).touch()

        def do(work: Work) -> Work:
            time.sleep(self.seconds)
            return started(work)

        return do


def slowed(nodes: Path, seconds: float) -> Callable[..., Handler]:
    """A replacement for `start_engine` whose workers sleep before each chunk."""

    def start(*arguments: Any) -> Handler:
        return Slow(start_worker=partial(start_engine, *arguments), seconds=seconds, nodes=nodes).start()

    return start


def slow_command(nodes: str) -> None:
    """The command line with slow workers, so that a signal arrives before a stage is finished."""
    from flywheel.cli import main
    from flywheel.workers import cluster

    cluster.start_engine = slowed(Path(nodes), seconds=0.5)  # type: ignore[assignment]
    main()
