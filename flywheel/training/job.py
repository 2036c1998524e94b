"""A training, and the file that hands it to the processes that do it."""

from __future__ import annotations

import contextlib
import pickle
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flywheel.config import TrainingConfig
from flywheel.training.examples import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training: the generator at ``start`` becomes the one in ``folder``, saved whole."""

    start: str
    folder: Path
    examples: Iterable[Example]
    """Taken once, in the order of training."""
    config: TrainingConfig
    seed: int
    checkpoints: Path
    """A folder that a stopped training resumes from; it is removed at the end."""
    accelerate_config: Path | None = None
    """The file that ``training.accelerate_config`` names."""
    trust_remote_code: bool = False

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A temporary folder among the checkpoints; what a kill leaves of it is removed with them."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(prefix="scratch-", dir=self.checkpoints, ignore_cleanup_errors=True) as name:
                yield Path(name)
        finally:
            with contextlib.suppress(OSError):
                self.checkpoints.rmdir()

    def write(self, file: Path) -> None:
        """Write a file that `read` makes the same job of, one example at a time."""
        with file.open("wb") as stream:
            pickle.dump(replace(self, examples=()), stream)
            for example in self.examples:
                pickle.dump(example, stream)

    @classmethod
    def read(cls, file: Path) -> Job:
        """Read a job; its examples are read one at a time."""
        records = _records(file)
        job: Job = next(records)
        return replace(job, examples=records)


def _records(file: Path) -> Iterator[Any]:
    with file.open("rb") as stream:
        while stream.peek(1):
            yield pickle.load(stream)
