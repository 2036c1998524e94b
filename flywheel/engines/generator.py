"""The generator at work: where it is, the engine that runs it, and the prompts that it reads.

A generator is a folder, or a model behind an endpoint. The latter is not trained: a local student is, in its place.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from flywheel.config import Config, EngineConfig
from flywheel.core.files import digest_model
from flywheel.core.model_folders import local_folder
from flywheel.engines.contract import Engine
from flywheel.engines.factory import Choice, check, choose, load
from flywheel.records import Model, ModelKind, Round
from flywheel.workspace import Workspace

ENDPOINT = "endpoint:"
"""Begins the recorded path of a model that is not on disk."""


def configured_generator(config: Config, workspace: Workspace) -> Model:
    """The generator that a configuration names, as it is before any round."""
    if config.engine.name == "openai":
        # The address is not part of it: the same model may be served elsewhere tomorrow.
        digest = hashlib.sha256(config.generator.encode()).hexdigest()
        name = config.generator.rstrip("/").rpartition("/")[2]
        return Model(kind=ModelKind.GENERATOR, name=name, path=ENDPOINT + config.generator, digest=digest)
    return _on_disk(config, config.generator, workspace)


def configured_student(config: Config, workspace: Workspace) -> Model:
    """What is trained, as it is before any round: the student, else the generator itself."""
    if config.training.student is None:
        return configured_generator(config, workspace)
    return _on_disk(config, config.training.student, workspace)


def _on_disk(config: Config, source: str, workspace: Workspace) -> Model:
    folder = local_folder(config.model(source))
    return Model(kind=ModelKind.GENERATOR, name="r0", path=workspace.inside(folder.resolve()), digest=digest_model(folder))


def chosen_engine(config: Config) -> Choice:
    """The engine that runs the generator of a configuration, and why."""
    return engine_for(config, generator_folder(config))


def engine_for(config: Config, folder: Path | None) -> Choice:
    """As `chosen_engine`, for a generator that was found; it has no folder where it is behind an endpoint."""
    if folder is None:
        return Choice(name="openai", why=f"{config.generator} is behind an endpoint")
    return choose(config.engine, folder)


def student_engine(config: Config) -> EngineConfig:
    """What runs a student: the configured engine, or what ``auto`` stands for where that asks an endpoint."""
    settings = config.engine
    if settings.name != "openai":
        return settings
    return EngineConfig(chunk=settings.chunk, trust_remote_code=settings.trust_remote_code)


def local_engine(config: Config) -> EngineConfig:
    """What runs a generator that is on disk: as `student_engine`, with the place of its script."""
    settings = student_engine(config)
    return settings if settings.script is None else settings.model_copy(update={"script": str(config.path(settings.script))})


def check_engine(config: Config) -> None:
    """Raise where the engine of a configuration could not start on this machine; on a cluster, its nodes have it."""
    if config.cluster is None:
        check(config.engine, generator_folder(config))


def trained_before(made: Round, config: Config, workspace: Workspace) -> Model:
    """What the training of a round starts from: the generator that its parent left, or the base; or a student, likewise."""
    rounds = workspace.store.rounds()
    after = made.parent if config.training.start == "previous" else rounds[0].round
    model_id = next(one.generator_out for one in rounds if one.round == after)
    assert model_id is not None, "the parent is done"
    return workspace.store.model(model_id)


def load_engine(config: Config, workspace: Workspace, model: Model) -> Engine:
    """The engine on a recorded model: the configured one on the generator, what ``auto`` stands for on a student."""
    if model.path.startswith(ENDPOINT):
        from flywheel.engines.openai_engine import OpenAIEngine

        return OpenAIEngine(model.path.removeprefix(ENDPOINT), config.engine, chat=config.prompt_style == "chat")
    return load(local_engine(config), workspace.locate(model), cache=workspace.models / "converted", digest=model.digest[:12])


def generator_folder(config: Config) -> Path | None:
    """The folder of a configuration's generator; None for one behind an endpoint."""
    return None if config.engine.name == "openai" else local_folder(config.model(config.generator))
