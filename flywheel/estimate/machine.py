"""The machine as a model meets it: its memory, how fast it multiplies matrices, how fast it moves bytes.

The two rates are measured, in well under a second: what the makers print is not what a process gets.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SIDE = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the matrices that are multiplied: large enough for the machine's full rate."""
COPIED = {"cpu": 128 << 20, "cuda": 1 << 30}
"""Bytes that are copied: more than caches hold."""
MEASURED_S = 0.15
"""How long each rate is measured, and at least three times: other processes make it look lower, never higher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a stage has to work with: the processor, or one GPU."""

    device: str
    """``cpu`` or ``cuda``."""
    name: str
    memory: int
    """Bytes in all."""
    operations: Mapping[str, float]
    """Floating point operations a second in matrix products, by the type of the numbers."""
    bandwidth: float
    """Bytes read and written a second."""


def measure(device: str, types: Iterable[str]) -> Machine:
    """The machine's rates; ``types`` are torch's names such as float32."""
    import torch

    kind = torch.device(device).type
    operations = {name: _operations(device, kind, name) for name in sorted(set(types))}
    if kind == "cuda":
        found = torch.cuda.get_device_properties(device)
        name, memory = found.name, int(found.total_memory)
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        name, memory = f"{cores} cores", _memory()
    return Machine(device=kind, name=name, memory=memory, operations=operations, bandwidth=_bandwidth(device, kind))


def _operations(device: str, kind: str, name: str) -> float:
    import torch

    side = SIDE[kind]
    one, other = (torch.randn(side, side, device=device, dtype=getattr(torch, name)) for _ in range(2))
    return 2 * side**3 / _fastest(lambda: torch.mm(one, other), kind)


def _bandwidth(device: str, kind: str) -> float:
    import torch

    one = torch.ones(COPIED[kind] // 4, device=device, dtype=torch.float32)
    other = torch.empty_like(one)
    return 2 * COPIED[kind] / _fastest(lambda: other.copy_(one), kind)


def _fastest(work: Callable[[], object], kind: str) -> float:
    """Seconds of the fastest run."""
    import torch

    def run() -> float:
        started = time.perf_counter()
        work()
        if kind == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    run()
    seconds: list[float] = []
    while len(seconds) < 3 or sum(seconds) < MEASURED_S:
        seconds.append(run())
    return min(seconds)


def _memory() -> int:
    """The memory of this machine, or what its container leaves of it."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        return min(whole, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")))
    return whole
