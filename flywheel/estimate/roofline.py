"""How long work takes and what it keeps in memory, from the sizes of a model and two rates of the machine. Pure functions.

A matrix product of P parameters is 2P operations a token; its gradients are twice as many. Writing a token also moves all
weights and the whole cache of keys and values through the processor: it takes as long as the slower of the two. What else
happens (drawing tokens, tokenizing, the database) is not counted, and neither is a processor that does not reach its rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from flywheel.estimate.machine import Machine
from flywheel.estimate.sizes import Shape

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
PASSES = 4
"""An activation is written and read once, and so is its gradient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes at the peak, of the numbers alone: Python and its libraries have half a gigabyte besides."""

    weights: int = 0
    cache: int = 0
    """Keys and values."""
    activations: int = 0
    training: int = 0
    """Gradients, and what the optimizer remembers."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.cache + self.activations + self.training


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """Texts that a generator writes."""

    prompts: int
    n: int
    prompt_tokens: float
    """Of one prompt, which is read once for its n texts."""
    tokens: float
    """Of one text."""
    together: int
    """Texts in a batch."""
    batches_at_once: int = 1
    """Each with its own weights."""


def writing_seconds(work: Writing, shape: Shape, machine: Machine, kind: str) -> float:
    """How long it takes to read the prompts and write the texts, in numbers of this type."""
    rate, size = machine.operations[measured_type(kind)], BYTES[kind]
    texts, context = work.prompts * work.n, work.prompt_tokens + work.tokens / 2
    read = work.prompts * work.prompt_tokens * (2 * shape.body + _attention(shape, work.prompt_tokens / 2))
    written = texts * work.tokens * (2 * (shape.body + shape.head) + _attention(shape, context))
    steps = math.ceil(texts / work.together) * work.tokens
    moved = size * (steps * (shape.body + shape.head) + texts * work.tokens * shape.cached * context)
    return read / rate + max(written / rate, moved / machine.bandwidth)


def writing_memory(work: Writing, shape: Shape, kind: str, longest: int) -> Memory:
    """What it keeps; ``longest`` is the longest prompt."""
    together = min(work.together * work.batches_at_once, work.prompts * work.n)
    return Memory(
        weights=work.batches_at_once * shape.parameters * BYTES[kind],
        cache=round(together * (longest + work.tokens) * shape.cached * BYTES[kind]),
        # The chances of every token of the vocabulary, sorted for top-p: in float32, twice.
        activations=together * shape.vocabulary * 4 * 2,
    )


def reading_seconds(shape: Shape, machine: Machine, *, tokens: float, context: float) -> float:
    """How long a reward model takes to read so many tokens in texts of a mean length, in float32."""
    operations = tokens * (2 * (shape.body + shape.head) + _attention(shape, context / 2))
    moved = tokens * shape.layers * shape.widest * BYTES["float32"] * PASSES / 2
    return operations / machine.operations["float32"] + moved / machine.bandwidth


def reading_memory(shape: Shape, *, batch_tokens: int) -> Memory:
    """What a reward model keeps while it scores a batch, in float32."""
    return Memory(weights=4 * shape.parameters, activations=4 * batch_tokens * (shape.widest + 4 * shape.width))


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Texts that a model is trained on."""

    steps: int
    step_tokens: float
    """Of one step, padding included, over all processes."""
    length: float
    """Of a text."""
    part_tokens: int
    """Of the part of a step that a process computes at once, at most."""
    activations: int
    """Bytes that it keeps of them for their gradients."""
    trained: int
    """Parameters that are trained: all of them, or adapters."""
    kind: str = "float32"
    """What is computed in."""
    computed_twice: bool = False
    processes: int = 1


def training_seconds(work: Training, shape: Shape, machine: Machine) -> float:
    """How long all steps take."""
    passes = (3 if work.trained == shape.parameters else 2) + work.computed_twice
    each = (2 * (shape.body + shape.head) + _attention(shape, work.length / 2)) * passes
    moved = work.activations / work.part_tokens * (PASSES + work.computed_twice)
    return work.steps * work.step_tokens * (each / machine.operations[work.kind] + moved / machine.bandwidth) / work.processes


def training_memory(work: Training, shape: Shape, *, frozen: str = "float32") -> Memory:
    """What training keeps in one process: AdamW remembers two numbers for each that is trained, next to its gradient.

    The peak is where the gradients begin: at the loss there are also those of its logits, and a second one of the head.
    """
    whole = work.trained == shape.parameters
    weights = shape.parameters * (4 if whole else BYTES[frozen]) + (0 if whole else 4 * work.trained)
    vocabulary = shape.head // shape.width
    loss = 4 * (work.part_tokens * vocabulary + (shape.head if whole else 0))
    return Memory(weights=weights, activations=work.activations + loss, training=work.trained * 4 * 3)


def measured_type(kind: str) -> str:
    """The type whose rate stands for this one's: int8 is taken to be no slower than float32."""
    return "float32" if kind == "int8" else kind


def _attention(shape: Shape, context: float) -> float:
    """Operations of a token that looks at so many others, over all layers."""
    return 4 * shape.layers * shape.width * context
