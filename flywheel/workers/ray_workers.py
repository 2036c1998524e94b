"""Generating and scoring on a Ray cluster: chunks go to actors that hold a model each, and come back in order.

Ray Data moves the chunks, keeps as many in flight as fit in memory, and when a process dies starts another on a node that is
left and repeats its chunks. Only this process has the database.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from flywheel.errors import RESUME, EngineError, FlywheelError, first_line
from flywheel.workers.pools import Handler, Pool
from flywheel.workers.work import Failed, Step, Work

DEATHS_AT_START = 3
"""How many processes in a row may die while they load their model."""
START = -1
"""The start of a process, where a chunk has its index."""
Outcome = Work | Failed | FlywheelError
"""What becomes of a chunk; an error that the user can fix is the same for all chunks."""


class RayWorkers:
    """The workers of the cluster that was joined; each run starts its own, and stops them at its end.

    A chunk that fails, or whose process dies, is tried ``retries`` more times before it is returned as failed.
    """

    def __init__(self, pools: Mapping[Step, Pool], *, retries: int) -> None:
        self._pools, self._retries = pools, retries

    def run(self, chunks: Iterable[Work], *steps: Step) -> Generator[Work | Failed]:
        """As `Workers.run`; raises the errors of a worker that the user can fix."""
        context = DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        this_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        attempts = ray.remote(num_cpus=0)(_Attempts).options(scheduling_strategy=this_node).remote()
        try:
            # In the cluster's memory; Ray moves what does not fit there to its disks.
            if not (blocks := [ray.put(_block(index, work)) for index, work in enumerate(chunks)]):
                return
            data = ray.data.from_arrow_refs(blocks)
            for step in steps:
                pool = self._pools[step]
                data = data.map_batches(
                    _Actor, fn_constructor_args=(step, pool, attempts, self._retries), batch_size=None,
                    batch_format="pyarrow", compute=ActorPoolStrategy(size=min(pool.size, len(blocks))), num_cpus=pool.cpus,
                    num_gpus=pool.gpus,
                )  # fmt: skip
            for batch in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for _, outcome in _rows(batch):
                    if isinstance(outcome, FlywheelError):
                        raise outcome
                    yield outcome
        except ray.exceptions.RayError as error:
            raise EngineError(f"the Ray cluster failed: {first_line(error)}", RESUME) from None

    def close(self) -> None:
        """Do nothing: models are in memory only during a run."""


class _Attempts:
    """Counts the unfinished attempts at each chunk and each start; on the driver's node, so that it outlives the workers."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[Step, int]] = Counter()

    def begin(self, key: tuple[Step, int]) -> int:
        self._counts[key] += 1
        return self._counts[key]

    def end(self, key: tuple[Step, int]) -> None:
        self._counts.pop(key, None)


class _Actor:
    """One process of the cluster, with its worker started."""

    def __init__(self, step: Step, pool: Pool, attempts: Any, retries: int) -> None:
        from flywheel.core.quiet import silence

        silence()
        self._step, self._attempts, self._retries = step, attempts, retries
        self._error: FlywheelError | None = None
        self._work: Handler
        # The other processes of the pool may be starting, too.
        if ray.get(attempts.begin.remote((step, START))) > DEATHS_AT_START + pool.size:
            self._error = EngineError(
                "workers of the cluster were killed while they loaded their model, most likely because memory ran out",
                "Lower `cluster.workers` or `cluster.scorers`, or use larger nodes.",
            )
            return
        try:
            self._work = pool.start()
        except FlywheelError as error:
            self._error = error
        except Exception as error:
            self._error = EngineError(f"a worker of the cluster cannot start: {first_line(error)}", f"Fix the cause. {RESUME}")
        attempts.end.remote((step, START))

    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.concat_tables([_block(index, self._outcome(index, outcome)) for index, outcome in _rows(batch)])

    def _outcome(self, index: int, work: Outcome) -> Outcome:
        if self._error or not isinstance(work, Work):  # it failed in the pool before
            return self._error or work
        key = (self._step, index)
        while (attempt := ray.get(self._attempts.begin.remote(key))) <= self._retries + 1:
            try:
                done = self._work(work)
            except FlywheelError as error:
                return error
            except Exception as error:
                if attempt > self._retries:
                    return Failed(index=index, error=f"{type(error).__name__}: {first_line(error)}")
            else:
                self._attempts.end.remote(key)
                return done
        return Failed(index=index, error=f"the worker process died {self._retries + 1} times")


def _block(index: int, outcome: Outcome) -> pa.Table:
    return pa.table({"index": [index], "chunk": pa.array([pickle.dumps(outcome)], pa.large_binary())})


def _rows(table: pa.Table) -> Iterator[tuple[int, Outcome]]:
    return zip(table["index"].to_pylist(), map(pickle.loads, table["chunk"].to_pylist()), strict=True)
