"""A Ray cluster on this machine, a head and three nodes of one core, and an S3 server that it reaches."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

ray = pytest.importorskip("ray", reason="ray is not installed: make test-ray")
NODE = {"num_cpus": 1, "object_store_memory": 150 << 20, "include_dashboard": False}
"""How large a node is."""
BUCKET = "s3://models"


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An empty bucket, with its address in the environment; nodes keep what they fetch in a temporary folder."""
    from fsspec import filesystem
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_DEFAULT_REGION": "us-east-1", "FLYWHEEL_CACHE": str(tmp_path_factory.mktemp("fetched")),
    }  # fmt: skip
    filesystem("s3").mkdir(BUCKET)
    try:
        yield BUCKET
    finally:
        server.stop()


@pytest.fixture(scope="session")
def cluster(bucket: str) -> Iterator[object]:
    """The cluster; a test that removes a node adds another."""
    from ray.cluster_utils import Cluster

    running = Cluster(initialize_head=True, head_node_args=NODE)
    for _ in range(3):
        running.add_node(**NODE)
    try:
        yield running
    finally:
        ray.shutdown()
        running.shutdown()
