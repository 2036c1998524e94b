"""Chunks on a cluster: their order, and what happens when something fails."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flywheel.errors import DataError, EngineError
from flywheel.records import Task
from flywheel.workers.joining import connect, resources
from flywheel.workers.on_ray import run
from flywheel.workers.steps import Pool
from flywheel.workers.work import Failed, Work
from tests.ray_cluster.conftest import NODE
from tests.ray_cluster.steps import Trouble


@pytest.fixture(autouse=True)
def _joined(cluster: Any) -> None:
    connect(cluster.address)


def chunks(count: int) -> Iterator[Work]:
    return (Work(tasks=[Task(instruction="Count.", input=str(number))]) for number in range(count))


def pool(size: int = 2, **trouble: Any) -> Pool:
    return Pool(step=Trouble(**trouble), size=size, cpus=1, gpus=0)


def told(found: list[Work | Failed]) -> list[Any]:
    return [one.error if isinstance(one, Failed) else list(one.scores) for one in found]


def test_chunks_come_back_in_order_after_every_step() -> None:
    found = list(run([pool(), pool(size=1)], chunks(20), retries=1))
    assert told(found) == [[number, number] for number in range(20)]


def test_a_chunk_that_always_fails_is_failed_chunks_and_the_others_are_done() -> None:
    found = list(run([pool(at=3, kind="raises"), pool(size=1)], chunks(6), retries=1))
    assert told(found) == [[0, 0], [1, 1], [2, 2], "ValueError: no such luck", [4, 4], [5, 5]]
    assert [one.index for one in found if isinstance(one, Failed)] == [3]


def test_a_chunk_whose_process_always_dies_is_failed_chunks_too() -> None:
    found = list(run([pool(at=2, kind="dies")], chunks(6), retries=1))
    assert told(found) == [[0], [1], "the process that had it died, 2 times", [3], [4], [5]]


def test_what_the_user_can_mend_is_raised() -> None:
    with pytest.raises(DataError, match=r"^the file is broken; mend it$"):
        list(run([pool(at=1, kind="ours")], chunks(4), retries=1))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("lacks", r"^no such model; get it$"),
        ("cannot", r"^a worker of the cluster cannot start \(no room for the weights\); mend the cause$"),
        (
            "dies at start",
            r"^the workers of the cluster die while they load their model, as happens where memory is short; set",
        ),
    ],
)
def test_a_worker_that_cannot_start_says_why(kind: str, said: str) -> None:
    with pytest.raises(EngineError, match=said):
        list(run([pool(size=1, kind=kind)], chunks(6), retries=1))


def test_chunks_that_wait_are_taken_by_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flywheel.workers.on_ray.WINDOW_BYTES", 5 * len(pickle.dumps(next(chunks(1)))))
    taken = []
    coming = run([pool(at=7, kind="raises")], (taken.append(one) or one for one in chunks(12)), retries=0)
    first = next(coming)
    assert len(taken) <= 5
    found = [first, *coming]
    assert told(found) == [[number] if number != 7 else "ValueError: no such luck" for number in range(12)]
    assert [one.index for one in found if isinstance(one, Failed)] == [7]


def test_a_node_that_goes_takes_nothing_with_it(cluster: Any) -> None:
    node = cluster.worker_nodes and next(iter(cluster.worker_nodes))

    def leave() -> None:
        time.sleep(3)
        cluster.remove_node(node, allow_graceful=False)

    going = threading.Thread(target=leave)
    going.start()
    try:
        found = list(run([pool(size=3, seconds=0.5)], chunks(30), retries=3))
    finally:
        going.join()
        cluster.add_node(**NODE)
    assert told(found) == [[number] for number in range(30)]


def test_nodes_that_go_and_come_are_told(
    cluster: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("flywheel"), "propagate", True)  # the command line takes it away

    def wait_for(line: str) -> None:
        deadline = time.monotonic() + 90
        while line not in caplog.messages:
            assert time.monotonic() < deadline, caplog.messages
            time.sleep(0.5)

    # Those that other tests took away may still be counted.
    deadline = time.monotonic() + 90
    while not resources().startswith("4 nodes: 0/4 cores, "):
        assert time.monotonic() < deadline, resources()
        time.sleep(0.5)
    caplog.clear()
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=True)
    try:
        wait_for("nodes gone from the cluster: 1 (3 are there); their chunks are done again")
    finally:
        cluster.add_node(**NODE)
    wait_for("nodes new in the cluster: 1 (4 are there)")


def test_a_head_that_is_gone_is_told(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    other = Cluster(initialize_head=True, head_node_args=NODE)
    address = other.address
    script = (
        "import logging, sys, time\n"
        "from flywheel.workers.joining import connect\n"
        "logging.basicConfig(stream=sys.stderr)\n"
        f"connect({address!r})\n"
        "time.sleep(120)\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    assert driver.stderr is not None
    try:
        assert f"{address}, 1 node: 0/1 cores" in driver.stderr.readline()
        other.head_node.kill_gcs_server(check_alive=False)
        line = driver.stderr.readline()
        assert f"the head of the Ray cluster at {address} does not answer; start it again, " in line
    finally:
        driver.kill()
        driver.communicate()
        other.shutdown()
