"""Clusters that a round cannot use are refused before any work."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flywheel.core.version import __version__
from flywheel.workers import joining
from tests.conftest import Cli, Outcome, copy

ray = pytest.importorskip("ray", reason="ray is not installed: make test-ray")


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def refused(cli: Cli, workspace: Path, **settings: Any) -> Outcome:
    sets = [part for name, value in settings.items() for part in ("--set", f"cluster.{name}={json.dumps(value)}")]
    done = cli("--workspace", workspace, "round", *sets)
    assert done.code == 1
    assert [line.partition(":")[0] for line in done.err.strip().splitlines()[-2:]] == ["error", "hint"]
    return done


def test_no_cluster_at_the_address(cli: Cli, built: Path, tmp_path: Path, nobody: str) -> None:
    ray.shutdown()
    done = refused(cli, copy(built, tmp_path), address=nobody)
    assert nobody in done.error
    assert "Connection refused" in done.error
    assert "`ray start --head`" in done.hint


def test_more_than_there_is(cli: Cli, cluster: Any, built: Path, tmp_path: Path) -> None:
    workspace, address = copy(built, tmp_path), cluster.address
    nodes = "4 with 1 cores and 0 GPUs"
    for settings, needed in (
        ({"workers": 9}, "10 cores and 0 GPUs"),
        ({"gpus_per_scorer": 2}, "2 cores and 2 GPUs"),
        ({"cpus_per_worker": 2}, "3 cores and 0 GPUs"),
    ):
        done = refused(cli, workspace, address=address, **settings)
        assert needed in done.error
        assert nodes in done.error
    assert "`engine.name`" in refused(cli, workspace, gpus_per_worker=1).hint


def test_a_storage_that_cannot_be_written(cli: Cli, cluster: Any, built: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = refused(cli, copy(built, tmp_path), address=cluster.address, storage=f"{tmp_path}/file/models")
    assert f"{tmp_path}/file/models" in done.error
    assert "[Errno 20] Not a directory" in done.error


def test_other_versions_on_the_nodes(
    cli: Cli, cluster: Any, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.shutdown()
    monkeypatch.setattr(joining, "__version__", "99.0")  # of this process; the nodes import the real one
    done = refused(cli, copy(built, tmp_path), address=cluster.address)
    assert done.error.endswith(f"has flywheel {__version__} instead of 99.0")
    ray.shutdown()


def test_a_signal_is_still_ours_after_joining(cluster: Any) -> None:
    ray.shutdown()
    before = signal.getsignal(signal.SIGTERM)
    joining.connect(cluster.address)
    assert signal.getsignal(signal.SIGTERM) == before
