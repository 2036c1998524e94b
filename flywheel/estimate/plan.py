"""The plan of a round: its pieces of work under the names that progress gives them, and what each is estimated to take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flywheel.config import PricesConfig
from flywheel.engines.factory import Choice
from flywheel.estimate.machine import Machine
from flywheel.estimate.roofline import Memory
from flywheel.estimate.sizes import Shape

ROOFLINE = "roofline"
"""The basis of a time that no round of the workspace has measured."""

UNCOUNTED = "; activations could not be counted, and are not in its memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A piece of work."""

    name: str
    unit: str
    count: int | None
    """How much of it there is, where that can be known."""
    rows: int = 0
    """Rows that it leaves in the store, at most."""
    tokens: int = 0
    """Generated: what time and cost are estimated for."""
    most_tokens: int = 0
    """Generated, at most."""
    prompt_tokens: int = 0
    """Read by the generator, on prompts as long as those of the seeds."""
    memory: Memory | None = None
    """At the peak; None where it is another machine's."""
    available: int | None = None
    """Bytes that there are for it."""
    seconds: float | None = None
    """None where there is nothing to go by."""
    basis: str | None = ROOFLINE
    """What the seconds come from: a round whose rates were measured, or ``roofline``."""
    note: str = ""
    free: bool = False
    """Whether its tokens have no price: a student writes them here, not the generator at its endpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one turn of the wheel would do."""

    round: str
    engine: Choice
    machine: Machine
    models: Mapping[str, Shape]
    work: Sequence[Work]
    done: Sequence[str]
    """What is done already and not planned again."""
    prices: PricesConfig
    notes: Sequence[str]
    warnings: Sequence[str]

    def cost(self, work: Work) -> float:
        """What a piece of work costs at the configured prices, without the time that is not known."""
        tokens, read = (0, 0) if work.free else (work.tokens, work.prompt_tokens)
        return self.prices.cost(tokens=tokens, prompt_tokens=read, seconds=work.seconds or 0.0)

    @property
    def total(self) -> dict[str, Any]:
        """Sums, and the peak of memory; of what can be known."""
        return {
            "tokens": sum(one.tokens for one in self.work),
            "most_tokens": sum(one.most_tokens for one in self.work),
            "prompt_tokens": sum(one.prompt_tokens for one in self.work),
            "memory": max((one.memory.total for one in self.work if one.memory), default=0),
            "seconds": math.fsum(one.seconds or 0.0 for one in self.work),
            "cost": math.fsum(self.cost(one) for one in self.work),
        }

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "round": self.round,
            "engine": asdict(self.engine),
            "machine": asdict(self.machine),
            "models": {name: asdict(shape) for name, shape in self.models.items()},
            "done": list(self.done),
            "work": [
                asdict(one)
                | {"memory": asdict(one.memory) | {"total": one.memory.total} if one.memory else None, "cost": self.cost(one)}
                for one in self.work
            ],
            "total": self.total,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }


def steps_of(rows: int, batch_size: int, epochs: float, args: Mapping[str, Any]) -> int:
    """Optimizer steps of a training as the trainers count them; ``args`` are those that the config passes on to them."""
    most = int(args.get("max_steps") or 0)
    each = math.ceil(rows / (batch_size * int(args.get("gradient_accumulation_steps") or 1)))
    return most if most > 0 else math.ceil(each * epochs)
