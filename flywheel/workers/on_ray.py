"""A Ray cluster at work: chunks go out to actors that hold a model each, and come back in order.

Ray Data moves the chunks, keeps as many under way as there is memory for, starts actors anew on the nodes that are left when
one dies, and repeats what they had begun. This process alone has the database.
"""

from __future__ import annotations

import atexit
import logging
import os
import pickle
import platform
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray.data import ActorPoolStrategy, DataContext
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from flywheel import __version__
from flywheel.config import ClusterConfig
from flywheel.errors import GOES_ON, ConfigError, EngineError, FlywheelError, first_line
from flywheel.workers.steps import Pool, Step
from flywheel.workers.work import Do, Failed, Work

CONNECT_S = 10.0
"""How long the head of a cluster may take to answer."""
DEATHS_AT_START = 3
"""How many processes in a row may die while they load their model."""
START = -1
"""In the place of a chunk's number: the start of a process."""
WINDOW_BYTES = 512 << 20
"""About as much of the chunks that wait is in the cluster's memory at once. After each such window the workers are started
anew, which costs seconds, for what takes minutes at the least."""
LOOK_EVERY_S = 3.0
"""How often the cluster is looked at."""
MISSES = 3
"""So often in a row the head may not answer."""
NO_START = "a worker of the cluster cannot start"
DIES = (
    "the workers of the cluster die while they load their model, as happens where memory is short; "
    "set cluster.workers or cluster.scorers lower, or take larger nodes"
)
_log = logging.getLogger("flywheel")
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


def connect(address: str) -> None:
    """Join a cluster; raises EngineError where there is none, or where its nodes have other versions than this process."""
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    asked_to_stop = signal.getsignal(signal.SIGTERM)
    try:
        _knock(address)
        with _without_stderr():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except RuntimeError as error:  # of which Ray has several lines, such as another release of Ray or Python
        raise EngineError(f"cannot join the Ray cluster at {address}: {' '.join(str(error).split())}") from None
    except (ConnectionError, ValueError, OSError, SystemExit) as error:
        raise EngineError(
            f"no Ray cluster at {address} ({first_line(error)}); start one with `ray start --head`, or mend cluster.address"
        ) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, asked_to_stop)  # Ray has put its own in place, which would end us without a word
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # a chunk that fails is told by us
    # What goes wrong on a node, Ray prints to stdout, where only our answers go.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    try:
        _refuse_other_versions()
    except EngineError:
        ray.shutdown()  # or the next call would take the cluster as joined
        raise
    global _watch
    if _watch:
        _watch.end()
    _watch = Watch(ray.get_runtime_context().gcs_address)
    atexit.register(_watch.end)  # before Ray's own, which was registered when it was imported
    _log.warning("%-22s %s, %s", "cluster", ray.get_runtime_context().gcs_address, _watch.taken)


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Drop what native code writes: Ray tells its log level as it starts."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _knock(address: str) -> None:
    """Raise OSError where nothing listens: Ray itself would try for minutes, and end the process."""
    host, _, port = canonicalize_bootstrap_address_or_die(address).rpartition(":")
    socket.create_connection((host, int(port)), timeout=CONNECT_S).close()


def _versions() -> dict[str, str]:
    """What must be the same on all nodes."""
    names = ("torch", "transformers", "ctranslate2", "ray")
    return {"python": platform.python_version(), "flywheel": __version__} | {name: version(name) for name in names}


def _refuse_other_versions() -> None:
    """Raise EngineError for a node whose libraries are not those of this process: its texts would be others."""
    ask = ray.remote(num_cpus=0)(_versions)
    here = _versions()
    asked = {
        node["NodeID"]: ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote()
        for node in ray.nodes()
        if node["Alive"]
    }
    for node, answer in asked.items():
        try:
            there = ray.get(answer, timeout=60)
        except Exception as error:  # whatever keeps flywheel from starting there
            raise EngineError(f"node {node[:8]} cannot run flywheel ({first_line(error)}); install it there") from None
        for name, wanted in here.items():
            if there[name] != wanted:
                raise EngineError(
                    f"node {node[:8]} has {name} {there[name]}, this process {wanted}; install the same release on all nodes"
                )


def resources() -> str:
    """What was last seen to be taken of the cores, GPUs and shared memory there are; nothing where no cluster was joined."""
    return _watch.taken if _watch else ""


class Watch:
    """Looks at the cluster from a thread of its own, as a head that is gone keeps whoever asks it waiting.

    Tells of nodes that go and come (a cluster knows of one that is gone some seconds after it is), and of a head that does not
    answer: Ray ends this process a minute later, without a word.
    """

    def __init__(self, address: str) -> None:
        self._address, self._known, self._missed = address, _alive(), 0
        self._ended = threading.Event()
        self.taken = _taken()
        threading.Thread(target=self._run, daemon=True).start()

    def end(self) -> None:
        """Look no more."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            try:
                _knock(self._address)
            except OSError:
                self._missed += 1
                if self._missed == MISSES:
                    _log.warning(
                        "the head of the Ray cluster at %s does not answer; start it again, %s", self._address, GOES_ON
                    )
                continue
            self._missed = 0
            if not self._ended.is_set() and ray.is_initialized():
                self.look()

    def look(self) -> None:
        """Tell which nodes have gone or come since the last time."""
        self.taken, found = _taken(), _alive()
        if gone := len(self._known - found):
            _log.warning("nodes gone from the cluster: %d (%d are there); their chunks are done again", gone, len(found))
        if new := len(found - self._known):
            _log.warning("nodes new in the cluster: %d (%d are there)", new, len(found))
        self._known = found


_watch: Watch | None = None


def _alive() -> set[str]:
    """The nodes that there are."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _taken() -> str:
    there, free = ray.cluster_resources(), ray.available_resources()

    def taken(name: str, unit: float = 1.0) -> str:
        return f"{(there.get(name, 0.0) - free.get(name, 0.0)) / unit:,.0f}/{there.get(name, 0.0) / unit:,.0f}"

    gpus = f"{taken('GPU')} GPUs, " if there.get("GPU") else ""
    nodes = len(_alive())
    return f"{nodes} node{'s' * (nodes > 1)}: {taken('CPU')} cores, {gpus}{taken('object_store_memory', 2**20)} MiB"


def check_room(settings: ClusterConfig) -> None:
    """Raise ConfigError where the nodes of the cluster have no room for every worker: cores, GPUs, and those on one node."""
    asked = [(float(settings.cpus_per_worker), settings.gpus_per_worker)] * settings.workers
    asked += [(1.0, settings.gpus_per_scorer)] * settings.scorers
    nodes = [(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)) for node in ray.nodes() if node["Alive"]]
    for resource, place in (("GPU", 1), ("CPU", 0)):
        wanted, there = (sum(one[place] for one in rows) for rows in (asked, nodes))
        if wanted > there:
            raise ConfigError(
                f"the workers and scorers of cluster ask for {wanted:g} {resource}s, the cluster has {there:g}; "
                "ask for fewer, or add nodes"
            )
    if not _fit(asked, nodes):
        sizes = ", ".join(f"{cpus:g} cores and {gpus:g} GPUs" for cpus, gpus in sorted(set(nodes)))
        raise ConfigError(f"the workers of cluster do not fit on its nodes ({sizes}); ask for less for each, or add nodes")


def _fit(asked: Sequence[tuple[float, float]], nodes: Sequence[tuple[float, float]]) -> bool:
    """Whether there is a node for each that is asked for, the large ones placed first."""
    left = list(nodes)
    for cpus, gpus in sorted(asked, key=lambda one: (one[1], one[0]), reverse=True):
        at = next((place for place, (cores, cards) in enumerate(left) if cpus <= cores and gpus <= cards), None)
        if at is None:
            return False
        left[at] = (left[at][0] - cpus, left[at][1] - gpus)
    return True


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
        from flywheel.quiet import silence

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
        raise EngineError(f"the Ray cluster failed ({first_line(error)}); {GOES_ON}") from None


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
