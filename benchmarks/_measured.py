"""One step of a benchmark in a process of its own: seconds, and the peak of its memory. Linux only, for the peak."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one step took."""

    seconds: float
    busy: float
    """Seconds of processor time, of all threads together: what else the machine does hardly changes it."""
    peak_mib: float
    """Most memory in use at once, the libraries too."""
    growth_mib: float
    """Of it, what was not in use yet when the step began."""
    told: Any = None
    """What the step returned."""


def measured(
    step: Callable[..., Any], *values: Any, ready: Callable[..., contextlib.AbstractContextManager[Any]] | None = None
) -> Cost:
    """Do a step in a new process; ``ready`` holds its one argument, made of the values before the clock starts."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_measure, args=(sender, step, ready, values))
    process.start()
    sender.close()
    try:
        cost: Cost = receiver.recv()
    except EOFError:
        sys.exit(f"{getattr(step, '__name__', step)} failed")
    process.join()
    return cost


def _measure(
    sender: multiprocessing.connection.Connection, step: Callable[..., Any], ready: Callable[..., Any] | None, values: Any
) -> None:
    with contextlib.ExitStack() as stack:
        arguments = values if ready is None else [stack.enter_context(ready(*values))]
        # Makes the peak what is in use now.
        Path("/proc/self/clear_refs").write_text("5")
        before, started, worked = memory("VmRSS"), time.perf_counter(), time.process_time()
        told = step(*arguments)
        seconds, busy, peak = time.perf_counter() - started, time.process_time() - worked, memory("VmHWM")
    sender.send(Cost(seconds=seconds, busy=busy, peak_mib=peak, growth_mib=peak - before, told=told))


def memory(name: str) -> float:
    """A figure of this process in MiB."""
    return int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024  # type: ignore[index]


def slope(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The power of the size that a cost grew with between the last two sizes: 1 is linear."""
    return math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2])


def table(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> None:
    """Print lines of figures under a head."""
    print(f"\n{title:<26}" + "".join(f"{column:>12}" for column in columns))
    for name, values in rows.items():
        print(f"{name:<26}" + "".join(f"{value:>12}" for value in values))
