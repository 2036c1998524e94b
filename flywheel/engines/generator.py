"""A configuration's generator and student: where they are, and the engine that runs them.

A generator is a folder, or a model behind an endpoint. The latter is not trained: a local student is, in its place.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from flywheel.config import Config, EngineConfig
from flywheel.core.files import digest_model
from flywheel.core.model_folders import local_folder
from flywheel.engines.contract import Engine, Sampling
from flywheel.engines.factory import Choice, choose, load
from flywheel.records import Model, ModelKind, Round
from flywheel.workspace import Workspace

ENDPOINT = "endpoint:"
"""Starts the recorded path of a model that is not on disk."""


def generator_folder(config: Config) -> Path | None:
    """The folder of a configuration's generator; None behind an endpoint."""
    return None if config.engine.name == "openai" else local_folder(config.model(config.generator))


def initial_generator(config: Config, workspace: Workspace) -> Model:
    """The generator before any round."""
    if config.engine.name != "openai":
        return _initial_model(config.generator, config, workspace)
    # Without the address, which may change between rounds.
    digest = hashlib.sha256(config.generator.encode()).hexdigest()
    name = config.generator.rstrip("/").rpartition("/")[2]
    return Model(kind=ModelKind.GENERATOR, name=name, path=ENDPOINT + config.generator, digest=digest)


def initial_student(config: Config, workspace: Workspace) -> Model:
    """The model to train before any round: the student, else the generator itself."""
    if config.training.student is None:
        return initial_generator(config, workspace)
    return _initial_model(config.training.student, config, workspace)


def _initial_model(source: str, config: Config, workspace: Workspace) -> Model:
    folder = local_folder(config.model(source))
    return Model(kind=ModelKind.GENERATOR, name="r0", path=workspace.inside(folder.resolve()), digest=digest_model(folder))


def training_start(round_: Round, config: Config, workspace: Workspace) -> Model:
    """The model that a round's training starts from: what the parent round trained, or the initial model."""
    rounds = workspace.store.rounds()
    name = round_.parent if config.training.start == "previous" else rounds[0].round
    model_id = next(earlier.generator_out for earlier in rounds if earlier.round == name)
    assert model_id is not None, "the parent is done"
    return workspace.store.model(model_id)


def choose_engine(config: Config) -> Choice:
    """The engine for a configuration's generator, and why."""
    return choose(config.engine, generator_folder(config))


def local_engine(config: Config) -> EngineConfig:
    """The engine settings for a model on disk: the configured ones, or ``auto`` for the student of an endpoint."""
    settings = config.engine
    if settings.name != "openai":
        return settings
    return EngineConfig(chunk=settings.chunk, trust_remote_code=settings.trust_remote_code)


def load_engine(config: Config, workspace: Workspace, model: Model) -> Engine:
    """Start the engine for a recorded model."""
    if model.path.startswith(ENDPOINT):
        from flywheel.engines.openai_engine import OpenAIEngine

        return OpenAIEngine(model.path.removeprefix(ENDPOINT), config.engine, chat=config.prompt_style == "chat")
    return load(local_engine(config), workspace.locate(model), cache=workspace.models / "converted", digest=model.digest[:12])


def sampling_of(config: Config) -> Sampling:
    """How outputs are sampled, for candidates and held-out tasks alike."""
    return Sampling(temperature=config.sampling.temperature, top_p=config.sampling.top_p, max_tokens=config.sampling.max_tokens)
