"""The Ray cluster that generates and scores, if not this process: the ``cluster`` section."""

from __future__ import annotations

from pydantic import Field, field_validator

from flywheel.config.section import Positive, Section


class ClusterConfig(Section):
    """A Ray cluster. Its rows are those of a single process, so nothing here is part of a round's fingerprint."""

    address: str = "auto"
    """Address of the head node, such as ``10.0.0.1:6379``; ``auto`` is the cluster that this machine is a node of."""
    workers: Positive = 1
    """Processes that run an engine."""
    cpus_per_worker: Positive = 1
    """Cores that each worker may use."""
    gpus_per_worker: float = Field(default=0.0, ge=0.0)
    """GPUs of each worker: one, several for tensor parallelism (set ``engine.args`` too), or a share of one."""
    scorers: Positive = 1
    """Processes that run the reward model; they score while the workers generate."""
    gpus_per_scorer: float = Field(default=0.0, ge=0.0)
    """GPUs of each scorer, or a share of one."""
    retries: int = Field(default=2, ge=0)
    """How often a chunk is retried, in another process if its own died, before it becomes a failed chunk."""
    storage: str | None = None
    """Folder or address (``s3://bucket/flywheel``) that passes models to nodes that do not see the workspace's folder."""

    @field_validator("address")
    @classmethod
    def _refuse_ray_client(cls, address: str) -> str:
        if address.startswith("ray://"):
            raise ValueError(
                "ray:// addresses are for Ray's client, which does not work with Ray Data; make this machine a node with "
                "`ray start --address HEAD:6379`, and set the address to HEAD:6379 or auto"
            )
        return address
