"""Members trained side by side, each in a process of its own."""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue

from flywheel.core.processes import Process
from flywheel.errors import FlywheelError, Stopped
from flywheel.records import CurvePoint
from flywheel.reward.members import Trained
from flywheel.reward.worker import JOB, Job

Advance = Callable[[int, int | None], None]
"""Takes the steps done by all, and those in all once every training has begun; may raise Stopped to stop."""


def train_side_by_side(jobs: Mapping[str, Job], parallel: int, advance: Advance) -> Generator[tuple[str, Trained]]:
    """Train members, so many at once, and yield each as soon as it is done.

    Each has a GPU of its own where there are several, or else its share of the cores. Where one fails or is stopped, the
    others stop at their next step, with a checkpoint; its error is raised when all have ended. Whoever closes the generator
    kills what is at work.
    """
    trainings, given_up = _Trainings(tuple(jobs), advance), threading.Event()
    places: SimpleQueue[int] = SimpleQueue()
    for place in range(parallel):
        places.put(place)

    def train(name: str) -> Trained:
        trainings.refuse_if_stopped()
        place = places.get()
        try:
            return _train(jobs[name], _environment(place, parallel), trainings.of(name), given_up)
        except FlywheelError as error:
            trainings.stop(error)
            raise
        finally:
            places.put(place)

    with ThreadPoolExecutor(parallel) as threads:
        begun = {threads.submit(train, name): name for name in jobs}
        try:
            for one in as_completed(begun):
                if one.exception() is None:
                    yield begun[one], one.result()
                elif not isinstance(one.exception(), FlywheelError):
                    one.result()
        finally:
            given_up.set()
            threads.shutdown(cancel_futures=True)
    if trainings.stopped_by:
        raise trainings.stopped_by


class _Trainings:
    """Adds up the steps of all trainings, and stops all where one is stopped."""

    def __init__(self, names: tuple[str, ...], advance: Advance) -> None:
        self._advance, self._lock = advance, threading.Lock()
        self._done = dict.fromkeys(names, 0)
        self._totals: dict[str, int] = {}
        self.stopped_by: FlywheelError | None = None

    def of(self, name: str) -> Callable[[int, int], None]:
        """What one of them tells its steps to."""

        def to(done: int, total: int) -> None:
            with self._lock:
                self.refuse_if_stopped()
                self._done[name], self._totals[name] = done, total
                known = len(self._totals) == len(self._done)
                self._advance(sum(self._done.values()), sum(self._totals.values()) if known else None)

        return to

    def stop(self, error: FlywheelError) -> None:
        """Have the others stop, too; the first to say why is the one that the others follow."""
        self.stopped_by = self.stopped_by or error

    def refuse_if_stopped(self) -> None:
        """Raise Stopped where one has been stopped."""
        if self.stopped_by:
            raise Stopped("another training was stopped")


def _train(job: Job, environment: Mapping[str, str], advance: Callable[[int, int], None], given_up: threading.Event) -> Trained:
    with tempfile.TemporaryDirectory(prefix="flywheel-") as name:
        folder = Path(name)
        (folder / JOB).write_bytes(pickle.dumps(job))
        process = Process(
            command=[sys.executable, "-m", "flywheel.reward.worker", name], folder=folder, called="training a member",
            where_memory_is_short="lower reward.parallel or reward.batch_size", environment=environment,
        )  # fmt: skip
        told = process.run(advance, given_up=given_up)
    return Trained(**told | {"curve": tuple(CurvePoint(**point) for point in told["curve"])})


def _environment(place: int, parallel: int) -> dict[str, str]:
    """What keeps processes out of each other's way."""
    import torch

    if torch.cuda.is_available():
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        cards = seen.split(",") if seen else [str(number) for number in range(torch.cuda.device_count())]
        return {"CUDA_VISIBLE_DEVICES": cards[place % len(cards)]}
    return {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // parallel))}
