"""A training, as it is handed to the process that does it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from flywheel.config import TrainingConfig
from flywheel.core.spool import Spooled
from flywheel.training.examples import Example

JOB, EXAMPLES = "job.json", "examples.jsonl"
"""Names in a folder that hands a job over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training: the generator at ``start`` becomes the one in ``folder``."""

    start: str
    folder: Path
    examples: Sequence[Example]
    config: TrainingConfig
    seed: int
    checkpoints: Path
    trust_remote_code: bool = False

    def write(self, folder: Path) -> None:
        """Write files that `read` makes the same job of."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "examples"}
        values["config"] = self.config.model_dump(mode="json")
        (folder / JOB).write_text(json.dumps(values, default=str), encoding="utf-8")
        with (folder / EXAMPLES).open("w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(asdict(one))}\n" for one in self.examples)

    @classmethod
    def read(cls, folder: Path) -> Job:
        """Read a job; its texts stay on disk."""
        values = json.loads((folder / JOB).read_text(encoding="utf-8"))
        with (folder / EXAMPLES).open(encoding="utf-8") as file:
            examples = Spooled((Example(**json.loads(line)) for line in file), folder)
        return cls(
            **values
            | {name: Path(values[name]) for name in ("folder", "checkpoints")}
            | {"examples": examples, "config": TrainingConfig(**values["config"])}
        )
