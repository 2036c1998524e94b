"""A training, as it is handed to the process that does it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flywheel.config import TrainingConfig
from flywheel.training.examples import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training: the generator at ``start`` becomes the one in ``folder``."""

    start: str
    folder: Path
    examples: tuple[Example, ...]
    config: TrainingConfig
    seed: int
    checkpoints: Path
    trust_remote_code: bool = False

    def write(self, path: Path) -> None:
        """Write a file that `read` makes the same job of."""
        values: dict[str, Any] = asdict(self) | {"config": self.config.model_dump(mode="json")}
        path.write_text(json.dumps(values, default=str), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read a job."""
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            **values
            | {name: Path(values[name]) for name in ("folder", "checkpoints")}
            | {"examples": tuple(Example(**one) for one in values["examples"]), "config": TrainingConfig(**values["config"])}
        )
