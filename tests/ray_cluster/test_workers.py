"""Chunks on a cluster: their order, and what happens when something fails."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from flywheel.errors import DataError, EngineError
from flywheel.records import Task
from flywheel.workers.joining import WATCH_EVERY_S, connect
from flywheel.workers.pools import Pool
from flywheel.workers.ray_workers import RayWorkers
from flywheel.workers.work import Failed, Step, Work
from tests.ray_cluster.conftest import NODE
from tests.ray_cluster.steps import Trouble


@pytest.fixture(autouse=True)
def _joined(cluster: Any) -> None:
    connect(cluster.address)


def chunks(count: int) -> Iterator[Work]:
    return (Work(tasks=[Task(instruction="Count.", input=str(number))]) for number in range(count))


def pool(size: int = 2, **trouble: Any) -> Pool:
    return Pool(start=Trouble(**trouble).start, size=size, cpus=1, gpus=0)


def run(pools: list[Pool], chunks: Iterator[Work], *, retries: int) -> Iterator[Work | Failed]:
    """Take chunks through one pool or two."""
    steps = list(Step)[: len(pools)]
    return RayWorkers(dict(zip(steps, pools, strict=True)), retries=retries).run(chunks, *steps)


def outcomes(done: list[Work | Failed]) -> list[Any]:
    return [work.error if isinstance(work, Failed) else list(work.scores) for work in done]


def test_chunks_come_back_in_order_after_every_step() -> None:
    done = list(run([pool(), pool(size=1)], chunks(20), retries=1))
    assert outcomes(done) == [[number, number] for number in range(20)]


def test_a_chunk_that_always_fails_is_returned_as_failed_and_the_others_are_done() -> None:
    done = list(run([pool(at=3, kind="raises"), pool(size=1)], chunks(6), retries=1))
    assert outcomes(done) == [[0, 0], [1, 1], [2, 2], "ValueError: no such luck", [4, 4], [5, 5]]
    assert [work.index for work in done if isinstance(work, Failed)] == [3]


def test_a_chunk_whose_process_always_dies_is_returned_as_failed() -> None:
    done = list(run([pool(at=2, kind="dies")], chunks(6), retries=1))
    assert outcomes(done) == [[0], [1], "the worker process died 2 times", [3], [4], [5]]


def test_what_the_user_can_fix_is_raised() -> None:
    with pytest.raises(DataError) as error:
        list(run([pool(at=1, kind="ours")], chunks(4), retries=1))
    assert (error.value.message, error.value.hint) == ("The file is broken.", "Fix it.")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", r"^No such model\.; Get it\.$"),
        ("cannot", "no room for the weights"),
        ("dies at start", r"memory.*`cluster\.workers`"),
    ],
)
def test_a_worker_that_cannot_start_says_why(kind: str, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        list(run([pool(size=1, kind=kind)], chunks(6), retries=1))


def test_a_node_that_goes_takes_nothing_with_it(cluster: Any) -> None:
    node = cluster.worker_nodes and next(iter(cluster.worker_nodes))

    def leave() -> None:
        time.sleep(3)
        cluster.remove_node(node, allow_graceful=False)

    going = threading.Thread(target=leave)
    going.start()
    try:
        done = list(run([pool(size=3, seconds=0.5)], chunks(30), retries=3))
    finally:
        going.join()
        cluster.add_node(**NODE)
    assert outcomes(done) == [[number] for number in range(30)]


def test_nodes_that_leave_and_join_are_reported(
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
    while sum(node["Alive"] for node in ray.nodes()) != 4:
        assert time.monotonic() < deadline, ray.nodes()
        time.sleep(0.5)
    time.sleep(2 * WATCH_EVERY_S)
    caplog.clear()
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=True)
    try:
        wait_for("Nodes that left the cluster: 1 (3 remain). Their chunks are repeated.")
    finally:
        cluster.add_node(**NODE)
    wait_for("Nodes that joined the cluster: 1 (4 now).")


def test_a_head_that_is_gone_is_reported(tmp_path: Path) -> None:
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
        assert f"{address}, nodes: 1, cores: 1, GPUs: 0" in driver.stderr.readline()
        other.head_node.kill_gcs_server(check_alive=False)
        assert any(f"The head node of the Ray cluster at {address} does not respond." in line for line in driver.stderr)
    finally:
        driver.kill()
        driver.communicate()
        other.shutdown()
