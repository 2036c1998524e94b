"""The models that write in a round, each with the engine and the machine that runs it and the texts that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flywheel.engines.factory import Choice, choose
from flywheel.engines.generator import ENDPOINT, local_engine
from flywheel.engines.machine import device
from flywheel.estimate.inputs import Inputs
from flywheel.estimate.machine import Machine, measure
from flywheel.estimate.roofline import measured_type
from flywheel.estimate.sizes import Found, Shape, read_config, shape_of
from flywheel.estimate.texts import Lengths, Readings, count_tokens
from flywheel.instructions.prompt_style import load_prompts
from flywheel.records import Model, ModelKind
from flywheel.workspace import Workspace

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """A model that writes."""

    engine: Choice
    machine: Machine
    kind: str
    """The type of its numbers."""
    lengths: Lengths
    shape: Shape | None
    """None for a model behind an endpoint."""
    config: PretrainedConfig | None


def machines(inputs: Inputs, engine: Choice) -> tuple[Machine, Machine]:
    """Where rewards are computed and models are trained, and where the generator writes."""
    import torch

    config, kind = inputs.config, measured_type(inputs.config.engine.compute_type)
    at_work = "cuda" if torch.cuda.is_available() else "cpu"
    # CTranslate2 is for CPUs here, and an endpoint is another machine.
    writes = {"ctranslate2": "cpu", "openai": at_work}.get(engine.name) or device(config.engine)
    same = writes.partition(":")[0] == at_work
    machine = measure(at_work, {"float32", config.training.dtype, *([kind] if same else [])})
    return machine, machine if same else measure(writes, {"float32", kind})


def generator_of(inputs: Inputs, workspace: Workspace, readings: Readings, engine: Choice, machine: Machine) -> Writer:
    """What writes tasks and candidates."""
    return _writer(inputs, workspace, readings, inputs.generator, engine, machine, inputs.config.engine.compute_type)


def trained_of(inputs: Inputs, workspace: Workspace, readings: Readings, generator: Writer, machine: Machine) -> Writer:
    """What is trained and evaluated: the generator, or a student in its place."""
    config = inputs.config
    if inputs.student is None:
        return generator
    settings = local_engine(config)
    engine = choose(settings, inputs.student.folder)
    return _writer(inputs, workspace, readings, inputs.student, engine, machine, settings.compute_type)


def _writer(
    inputs: Inputs, workspace: Workspace, readings: Readings, found: Found | None, engine: Choice, machine: Machine, kind: str
) -> Writer:
    trust = inputs.config.engine.trust_remote_code
    here = found is not None and found.whole
    # Of one that is not here, the words are counted as they are said.
    path = str(found.folder.resolve()) if found and here else f"{ENDPOINT}{inputs.config.generator}"
    prompts = load_prompts(inputs.config, workspace, Model(kind=ModelKind.GENERATOR, name="r0", path=path, digest=""))
    tokens = count_tokens(found.folder if found and here else None, trust_remote_code=trust)
    described = read_config(found, trust_remote_code=trust) if found else None
    return Writer(
        engine=engine,
        machine=machine,
        kind=kind,
        lengths=readings.lengths(prompts, tokens),
        shape=shape_of(described, trust_remote_code=trust) if described else None,
        config=described,
    )
