"""The workers of a configuration's cluster, for one generator and one reward model."""

from __future__ import annotations

import sys

from flywheel.config import ClusterConfig, Config
from flywheel.engines.generator import ENDPOINT, local_engine
from flywheel.errors import ConfigError, EngineError
from flywheel.records import Model
from flywheel.workers.steps import Pool, Scoring, Writing
from flywheel.workers.storage import Stored, check_storage
from flywheel.workers.work import Do, Workers
from flywheel.workspace import Workspace


def join_cluster(config: Config, settings: ClusterConfig) -> None:
    """Join the cluster, before work is begun that needs it.

    Raises where it is not there, too small or of other versions, where its storage cannot be written, or where it is left open
    what its nodes run.
    """
    if config.engine.name == "auto" and settings.gpus_per_worker:
        raise ConfigError(
            f"cluster.gpus_per_worker is {settings.gpus_per_worker:g} and engine.name is auto, which this machine would "
            "choose; name the engine of the nodes: vllm or transformers"
        )
    try:
        from flywheel.workers.joining import check_room, connect
    except ImportError:
        raise EngineError("Package 'ray' not found.", "Run `pip install 'flywheel-bon[ray]'`.") from None
    connect(settings.address)
    check_room(settings)
    if settings.storage is not None:
        check_storage(settings.storage)


def resources() -> str:
    """What is taken of the cluster, in a line; nothing where none was joined."""
    joining = sys.modules.get("flywheel.workers.joining")
    return joining.resources() if joining else ""


def cluster_workers(
    config: Config, settings: ClusterConfig, workspace: Workspace, generator: Model, reward: Model | None
) -> Workers:
    """The workers, told what to load; raises as `join_cluster` does.

    A generator behind an endpoint is not written with on a cluster, and without a reward model nothing is scored.
    """
    join_cluster(config, settings)
    from flywheel.workers.on_ray import OnRay

    def stored(model: Model) -> Stored:
        found = Stored(folder=workspace.locate(model).resolve(), digest=model.digest, storage=settings.storage)
        found.store()
        return found

    pools: dict[Do, Pool] = {}
    if not generator.path.startswith(ENDPOINT):
        engine = local_engine(config).model_copy(update={"workers": settings.cpus_per_worker})
        pools[Do.WRITE] = Pool(
            step=Writing(settings=engine, generator=stored(generator), cache=workspace.models.resolve() / "converted"),
            size=settings.workers, cpus=settings.cpus_per_worker, gpus=settings.gpus_per_worker,
        )  # fmt: skip
    if reward is not None:
        pools[Do.SCORE] = Pool(
            step=Scoring(config=config, reward_model=stored(reward)),
            size=settings.scorers, cpus=1, gpus=settings.gpus_per_scorer,
        )  # fmt: skip
    return OnRay(pools, retries=settings.retries)
