"""Clusters that a round cannot use: a line each, before any work."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flywheel import __version__
from flywheel.workers import joining
from tests.conftest import Cli, copy

ray = pytest.importorskip("ray", reason="ray is not installed: make test-ray")


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def refused(cli: Cli, workspace: Path, **settings: Any) -> str:
    sets = [part for name, value in settings.items() for part in ("--set", f"cluster.{name}={json.dumps(value)}")]
    done = cli("--workspace", workspace, "round", *sets)
    assert done.code == 1
    (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert done.err.strip().endswith(line)
    return line


def test_no_cluster_at_the_address(cli: Cli, built: Path, tmp_path: Path, nobody: str) -> None:
    ray.shutdown()
    assert refused(cli, copy(built, tmp_path), address=nobody) == (
        f"error: no Ray cluster at {nobody} ([Errno 111] Connection refused); start one with `ray start --head`, "
        "or mend cluster.address"
    )


def test_more_than_there_is(cli: Cli, cluster: Any, built: Path, tmp_path: Path) -> None:
    workspace, address = copy(built, tmp_path), cluster.address
    assert refused(cli, workspace, address=address, workers=9) == (
        "error: the workers and scorers of cluster ask for 10 CPUs, the cluster has 4; ask for fewer, or add nodes"
    )
    assert refused(cli, workspace, address=address, gpus_per_scorer=2) == (
        "error: the workers and scorers of cluster ask for 2 GPUs, the cluster has 0; ask for fewer, or add nodes"
    )
    assert refused(cli, workspace, address=address, cpus_per_worker=2) == (
        "error: the workers of cluster do not fit on its nodes (1 cores and 0 GPUs); ask for less for each, or add nodes"
    )
    assert "name the engine of the nodes: vllm or transformers" in refused(cli, workspace, gpus_per_worker=1)


def test_a_storage_that_cannot_be_written(cli: Cli, cluster: Any, built: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = refused(cli, copy(built, tmp_path), address=cluster.address, storage=f"{tmp_path}/file/models")
    assert line.startswith(f"error: cannot write to cluster.storage {tmp_path}/file/models ([Errno 20] Not a directory")
    assert line.endswith("mend the address or its rights")


def test_other_versions_on_the_nodes(
    cli: Cli, cluster: Any, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.shutdown()
    monkeypatch.setattr(joining, "__version__", "99.0")  # of this process; the nodes import the real one
    line = refused(cli, copy(built, tmp_path), address=cluster.address)
    assert line.startswith("error: node ")
    assert line.endswith(f"has flywheel {__version__}, this process 99.0; install the same release on all nodes")
    ray.shutdown()


def test_a_signal_is_still_ours_after_joining(cluster: Any) -> None:
    ray.shutdown()
    before = signal.getsignal(signal.SIGTERM)
    joining.connect(cluster.address)
    assert signal.getsignal(signal.SIGTERM) == before
