"""Joining a Ray cluster: it must be there, large enough and of the same versions; and watching it."""

from __future__ import annotations

import atexit
import logging
import os
import platform
import signal
import socket
import threading
from collections import Counter
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from flywheel.config import ClusterConfig
from flywheel.core.version import __version__
from flywheel.errors import RESUME, ConfigError, EngineError, first_line

CONNECT_S = 10.0
"""How long the head may take to answer."""
WATCH_EVERY_S = 3.0
MISSES = 3
"""Unanswered looks in a row after which the head is reported."""
_log = logging.getLogger("flywheel")


def connect(address: str) -> None:
    """Join a cluster; raises EngineError where there is none, or where its nodes have other versions than this process."""
    if ray.is_initialized():
        return
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or address
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    sigterm = signal.getsignal(signal.SIGTERM)
    try:
        if address != "auto":
            _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (RuntimeError, ConnectionError, ValueError, OSError, SystemExit) as error:
        raise EngineError(
            f"cannot join the Ray cluster at {address}: {' '.join(str(error).split())}",
            "Start one with `ray start --head`, or set `cluster.address` to HOST:PORT of its head node.",
        ) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, sigterm)  # Ray's own handler ends this process without a message
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # failed chunks are reported by their rows
    try:
        _check_versions()
    except EngineError:
        ray.shutdown()  # or the next call would take the cluster as joined
        raise
    head, total, stopped = ray.get_runtime_context().gcs_address, ray.cluster_resources(), threading.Event()
    threading.Thread(target=_watch, args=(head, stopped), daemon=True).start()
    atexit.register(stopped.set)  # before Ray's own, which was registered at its import
    sizes = len(_alive()), total.get("CPU", 0.0), total.get("GPU", 0.0)
    _log.warning("%-22s %s, nodes: %d, cores: %g, GPUs: %g", "cluster", head, *sizes)


def _knock(address: str) -> None:
    """Raise OSError where nothing listens: Ray would try for minutes, and then end this process."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=CONNECT_S).close()


def _versions() -> dict[str, str]:
    """What must be the same on all nodes."""
    names = ("torch", "transformers", "ctranslate2", "ray")
    return {"python": platform.python_version(), "flywheel": __version__} | {name: version(name) for name in names}


def _check_versions() -> None:
    """Raise EngineError for a node whose libraries are not those of this process: its completions could differ."""
    task = ray.remote(num_cpus=0)(_versions)
    for node_id in (node["NodeID"] for node in _alive()):
        try:
            strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
            there = ray.get(task.options(scheduling_strategy=strategy).remote(), timeout=60)
        except Exception as error:  # whatever keeps flywheel from starting there
            hint = "Install flywheel on every node."
            raise EngineError(f"node {node_id[:8]} cannot run flywheel: {first_line(error)}", hint) from None
        if other := [f"{name} {there[name]} instead of {here}" for name, here in _versions().items() if there[name] != here]:
            raise EngineError(f"node {node_id[:8]} has {', '.join(other)}", "Install the same versions on all nodes.")


def check_room(settings: ClusterConfig) -> None:
    """Raise ConfigError where the workers do not fit on the nodes of the cluster."""
    workers = [(float(settings.cpus_per_worker), settings.gpus_per_worker)] * settings.workers
    workers += [(1.0, settings.gpus_per_scorer)] * settings.scorers
    nodes = [(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)) for node in _alive()]
    free = list(nodes)
    for cpus, gpus in sorted(workers, key=lambda worker: (worker[1], worker[0]), reverse=True):  # the large ones first
        place = next((place for place, node in enumerate(free) if cpus <= node[0] and gpus <= node[1]), None)
        if place is None:
            need = "{:g} cores and {:g} GPUs".format(*map(sum, zip(*workers, strict=True)))
            sizes = ", ".join(f"{count} with {node[0]:g} cores and {node[1]:g} GPUs" for node, count in Counter(nodes).items())
            message = f"{len(workers)} workers and scorers need {need} and do not fit on the nodes: {sizes}"
            raise ConfigError(
                message, "Lower `cluster.workers`, `cluster.scorers` or the cores and GPUs of each, or add nodes."
            )
        free[place] = (free[place][0] - cpus, free[place][1] - gpus)


def _watch(head: str, stopped: threading.Event) -> None:
    """Report nodes that leave and join, and a head that does not answer: Ray ends this process a minute later, silently.

    In a thread of its own, because calls to a head that is gone block.
    """
    nodes, missed = {node["NodeID"] for node in _alive()}, 0
    while not stopped.wait(WATCH_EVERY_S):
        try:
            _knock(head)
        except OSError:
            missed += 1
            if missed == MISSES:
                _log.warning("The head node of the Ray cluster at %s does not respond. Restart it. %s", head, RESUME)
            continue
        missed = 0
        with suppress(Exception):  # this process may be leaving the cluster
            before, nodes = nodes, {node["NodeID"] for node in _alive()}
            if lost := len(before - nodes):
                _log.warning("Nodes that left the cluster: %d (%d remain). Their chunks are repeated.", lost, len(nodes))
            if new := len(nodes - before):
                _log.warning("Nodes that joined the cluster: %d (%d now).", new, len(nodes))


def _alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]
