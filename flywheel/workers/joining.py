"""A Ray cluster that is joined: whether it is there, large enough and of the same releases, and what becomes of it."""

from __future__ import annotations

import atexit
import logging
import os
import platform
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version

import ray
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from flywheel.config import ClusterConfig
from flywheel.core.version import __version__
from flywheel.errors import RESUME, ConfigError, EngineError, first_line

CONNECT_S = 10.0
"""How long the head of a cluster may take to answer."""
LOOK_EVERY_S = 3.0
"""How often the cluster is looked at."""
MISSES = 3
"""So often in a row the head may not answer."""
_log = logging.getLogger("flywheel")


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
                    _log.warning("the head of the Ray cluster at %s does not answer; start it again, %s", self._address, RESUME)
                continue
            self._missed = 0
            # Where this process leaves the cluster meanwhile, there is nothing to look at.
            with suppress(Exception):
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
