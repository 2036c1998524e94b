"""A Ray cluster at work: chunks go out to actors that hold a model each, and come back in order.

Ray Data moves the chunks, keeps as many under way as there is memory for, starts actors anew on the nodes that are left when
one dies, and repeats what they had begun. This process alone has the database.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from flywheel.errors import RESUME, EngineError, FlywheelError, first_line
from flywheel.workers.steps import Pool, Step
from flywheel.workers.work import Do, Failed, Work

DEATHS_AT_START = 3
"""How many processes in a row may die while they load their model."""
START = -1
"""In the place of a chunk's number: the start of a process."""
WINDOW_BYTES = 512 << 20
"""About as much of the chunks that wait is in the cluster's memory at once. After each such window the workers are started
anew, which costs seconds, for what takes minutes at the least."""
NO_START = "a worker of the cluster cannot start"
DIES = (
    "the workers of the cluster die while they load their model, as happens where memory is short; "
    "set cluster.workers or cluster.scorers lower, or take larger nodes"
)
_Came = Work | FlywheelError | str
"""What becomes of a chunk: done, an error for the user to mend, or why it could not be done."""


class OnRay:
    """The workers of the cluster that was joined; each call of `do` starts its own, and gives them back at its end."""

    def __init__(self, pools: Mapping[Do, Pool], *, retries: int) -> None:
        self._pools, self._retries = pools, retries

    def do(self, chunks: Iterable[Work], *steps: Do) -> Generator[Work | Failed]:
        return run([self._pools[step] for step in steps], chunks, retries=self._retries)

    def close(self) -> None:
        """Nothing to give back: the models are in memory only while there is work."""


class _Tries:
    """How often something was begun and not ended; lives where this process does, which no worker takes with it."""

    def __init__(self) -> None:
        self._begun: Counter[tuple[int, int]] = Counter()

    def begin(self, what: tuple[int, int]) -> int:
        self._begun[what] += 1
        return self._begun[what]

    def end(self, what: tuple[int, int]) -> None:
        self._begun.pop(what, None)


class _Actor:
    """One process of the cluster, with its step started."""

    def __init__(self, place: int, pool: Pool, tries: Any, retries: int) -> None:
        from flywheel.core.quiet import silence

        silence()
        self._place, self._tries, self._retries = place, tries, retries
        start = (place, START)
        # Of the others that are starting now, each may have begun once.
        if ray.get(tries.begin.remote(start)) > DEATHS_AT_START + pool.size:
            self._work = _telling(EngineError(DIES))
            return
        self._work = _started(pool.step)
        tries.end.remote(start)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Do what has come."""
        rows = zip(batch["index"].to_pylist(), batch["chunk"].to_pylist(), strict=True)
        return pa.concat_tables([_block(index, self._do(index, pickle.loads(work))) for index, work in rows])

    def _do(self, index: int, work: _Came) -> _Came:
        if not isinstance(work, Work):  # it failed in a step before
            return work
        chunk = (self._place, index)
        while (tried := ray.get(self._tries.begin.remote(chunk))) <= self._retries + 1:
            try:
                done = self._work(work)
            except FlywheelError as error:  # the user's to mend, and the same for every chunk
                return error
            except Exception as error:
                if tried > self._retries:
                    return f"{type(error).__name__}: {first_line(error)}"
            else:
                self._tries.end.remote(chunk)
                return done
        return f"the process that had it died, {self._retries + 1} times"


def _started(step: Step) -> Callable[[Work], Work]:
    """What a step does with a chunk; where it cannot start, that is what becomes of each chunk."""
    try:
        return step.start()
    except Exception as error:
        ours = isinstance(error, FlywheelError)
        return _telling(error if ours else EngineError(f"{NO_START} ({first_line(error)}); mend the cause"))


def _telling(error: Exception) -> Callable[[Work], Work]:
    def tell(_: Work) -> Work:
        raise error

    return tell


def run(pools: Sequence[Pool], chunks: Iterable[Work], *, retries: int) -> Generator[Work | Failed]:
    """Every chunk after all steps, in order, as soon as it and those before it are done.

    Raises what a step raised for the user to mend. A chunk that fails otherwise, or whose process dies, is tried ``retries``
    more times before it comes back as failed. Chunks are taken by the window, so that those that wait fill no memory.
    """
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    with_us = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    tries = ray.remote(num_cpus=0)(_Tries).options(scheduling_strategy=with_us).remote()
    try:
        for window in _windows(_block(index, work) for index, work in enumerate(chunks)):
            yield from _run(pools, window, tries, retries)
    except ray.exceptions.RayError as error:
        raise EngineError(f"the Ray cluster failed ({first_line(error)}); {RESUME}") from None


def _windows(blocks: Iterator[pa.Table]) -> Iterator[list[ray.ObjectRef]]:
    """The blocks, in the cluster's memory, as many at a time as fill a window."""
    window, size = [], 0
    for block in blocks:
        window.append(ray.put(block))
        size += block.nbytes
        if size >= WINDOW_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window


def _run(pools: Sequence[Pool], blocks: list[ray.ObjectRef], tries: Any, retries: int) -> Generator[Work | Failed]:
    data = ray.data.from_arrow_refs(blocks)
    for place, pool in enumerate(pools):
        data = data.map_batches(
            _Actor, fn_constructor_args=(place, pool, tries, retries), batch_size=None, batch_format="pyarrow",
            compute=ActorPoolStrategy(size=min(pool.size, len(blocks))), num_cpus=pool.cpus, num_gpus=pool.gpus,
        )  # fmt: skip
    for batch in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for index, one in zip(batch["index"].to_pylist(), batch["chunk"].to_pylist(), strict=True):
            work: _Came = pickle.loads(one)
            if isinstance(work, FlywheelError):
                raise work
            yield Failed(index=index, error=work) if isinstance(work, str) else work


def _block(index: int, came: _Came) -> pa.Table:
    return pa.table({"index": [index], "chunk": pa.array([pickle.dumps(came)], pa.large_binary())})
