"""Where the work of a round is done, if not in this process: the ``cluster`` section."""

from __future__ import annotations

from pydantic import Field, field_validator

from flywheel.config.section import Positive, Section


class ClusterConfig(Section):
    """A Ray cluster. What it writes and scores is what this process would: nothing here is part of a round's identity."""

    address: str = "auto"
    """Of the head node, such as ``10.0.0.1:6379``; ``auto`` is the cluster that this machine is a node of."""
    workers: Positive = 1
    """Processes that hold an engine."""
    cpus_per_worker: Positive = 1
    """Cores that each may use."""
    gpus_per_worker: float = Field(default=0.0, ge=0.0)
    """A GPU each, or several for tensor parallelism (then also ``engine.args``), or a share of one."""
    scorers: Positive = 1
    """Processes that hold the reward model; they score while the others write."""
    gpus_per_scorer: float = Field(default=0.0, ge=0.0)
    retries: int = Field(default=2, ge=0)
    """How often a chunk is tried again, in another process where its own has died, before it is set aside."""
    storage: str | None = None
    """A folder, or an address such as ``s3://bucket/flywheel``, through which nodes get the models that do not see the
    workspace's folder."""

    @field_validator("address")
    @classmethod
    def _is_a_nodes(cls, address: str) -> str:
        if address.startswith("ray://"):
            raise ValueError(
                f"{address} is for Ray's client, with which Ray Data does not work; make this machine a node with "
                "`ray start --address HEAD:6379`, and name HEAD:6379 or auto"
            )
        return address
