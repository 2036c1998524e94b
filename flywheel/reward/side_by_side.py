"""Members trained side by side, each in a process of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from queue import SimpleQueue

from flywheel.core.processes import Process
from flywheel.errors import FlywheelError, Stopped
from flywheel.reward.members import Job, Trained, train_member


def train_side_by_side(
    jobs: Mapping[str, Job], parallel: int, advance: Callable[[int, int | None], None]
) -> Generator[tuple[str, Trained]]:
    """Train up to ``parallel`` members at a time, and yield each as soon as it is done.

    Each has a GPU of its own where there are several, or else its share of the cores. ``advance`` takes the steps of all
    members, and their total once all have started. Where one fails or is stopped, the others stop at their next step, with a
    checkpoint, and its error is raised when all have ended. Closing the generator kills the processes.
    """
    places: SimpleQueue[int] = SimpleQueue()
    for place in range(parallel):
        places.put(place)
    lock, processes = threading.Lock(), list[Process]()
    steps: dict[str, tuple[int, int]] = {}
    first_error: FlywheelError | None = None

    def step(name: str, done: int, total: int) -> None:
        with lock:
            if first_error:
                raise Stopped("Another training was stopped.")
            steps[name] = done, total
            all_done, all_total = map(sum, zip(*steps.values(), strict=True))
            advance(all_done, all_total if len(steps) == len(jobs) else None)

    def train(name: str) -> Trained:
        nonlocal first_error
        place = places.get()
        hint = "Lower `reward.parallel` or `reward.batch_size`."
        try:
            if first_error:
                raise Stopped("Another training was stopped.")
            with Process(
                partial(train_member, jobs[name]), environment=_environment(place, parallel), memory_hint=hint
            ) as process:
                processes.append(process)
                trained: Trained = process.result(partial(step, name))
                return trained
        except FlywheelError as error:
            first_error = first_error or error
            raise
        finally:
            places.put(place)

    with ThreadPoolExecutor(parallel) as threads:
        names = {threads.submit(train, name): name for name in jobs}
        try:
            for training in as_completed(names):
                if not isinstance(training.exception(), FlywheelError):
                    yield names[training], training.result()
        except BaseException:
            first_error = first_error or Stopped("The trainings were abandoned.")
            for process in processes:
                process.kill()
            raise
    if first_error:
        raise first_error


def _environment(place: int, parallel: int) -> dict[str, str]:
    """The GPU or the cores of one of the processes."""
    import torch

    if torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        cards = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
        return {"CUDA_VISIBLE_DEVICES": cards[place % len(cards)]}
    return {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // parallel))}
