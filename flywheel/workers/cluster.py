"""The workers of the ``cluster`` section, for one generator and one reward model."""

from __future__ import annotations

from functools import partial

from flywheel.config import ClusterConfig, Config
from flywheel.engines.generator import local_engine
from flywheel.errors import ConfigError, EngineError
from flywheel.records import Model
from flywheel.workers.pools import Pool, start_engine, start_scorer
from flywheel.workers.storage import Stored, check_storage
from flywheel.workers.work import Step, Workers
from flywheel.workspace import Workspace


def join_cluster(config: Config, settings: ClusterConfig) -> None:
    """Join the cluster; raises a FlywheelError where it is missing, too small, of other versions or without its storage."""
    if config.engine.name == "auto" and settings.gpus_per_worker:
        message = "`engine.name: auto` cannot choose an engine for GPUs of other machines (`cluster.gpus_per_worker`)"
        raise ConfigError(message, "Set `engine.name` to vllm or transformers.")
    try:
        from flywheel.workers.joining import check_room, connect
    except ImportError:
        raise EngineError("package ray not found", "Run `pip install 'flywheel-bon[ray]'`.") from None
    connect(settings.address)
    check_room(settings)
    if settings.storage is not None:
        check_storage(settings.storage)


def cluster_workers(
    config: Config, settings: ClusterConfig, workspace: Workspace, generator: Model, reward: Model | None
) -> Workers:
    """The workers of the cluster, with a generator on disk and, to score, a reward model; raises what `join_cluster` raises."""
    join_cluster(config, settings)
    from flywheel.workers.ray_workers import RayWorkers

    def stored(model: Model) -> Stored:
        folder = Stored(folder=workspace.locate(model).resolve(), digest=model.digest, storage=settings.storage)
        folder.store()
        return folder

    engine = local_engine(config).model_copy(update={"workers": settings.cpus_per_worker})
    generate = Pool(
        start=partial(start_engine, engine, stored(generator), workspace.models.resolve() / "converted"),
        size=settings.workers, cpus=settings.cpus_per_worker, gpus=settings.gpus_per_worker,
    )  # fmt: skip
    pools = {Step.GENERATE: generate}
    if reward is not None:
        pools[Step.SCORE] = Pool(
            start=partial(start_scorer, config, stored(reward)), size=settings.scorers, cpus=1, gpus=settings.gpus_per_scorer,
        )  # fmt: skip
    return RayWorkers(pools, retries=settings.retries)
