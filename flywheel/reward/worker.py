"""The training of one member: `python -m flywheel.reward.worker FOLDER`, the other side of `side_by_side.py`."""

from __future__ import annotations

import pickle
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.core.processes import Line, leaving_word
from flywheel.errors import BudgetSpent
from flywheel.instructions.prompts import Prompts
from flywheel.reward.data import PreferenceSet
from flywheel.reward.recipe import TrainingSettings

if TYPE_CHECKING:
    from flywheel.core.progress import Advance
    from flywheel.reward.members import Trained

JOB = "job.pickle"
"""Name in the folder that a job is handed over in, which only its owner can write to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training: the model at ``base`` becomes the member in ``folder``."""

    base: Path
    folder: Path
    data: PreferenceSet
    settings: TrainingSettings
    prompts: Path
    seed: int
    checkpoints: Path

    def train(self, advance: Advance) -> Trained:
        """Train it in this process; `train_member` says what it raises."""
        from flywheel.reward.members import train_member

        return train_member(
            self.base, self.folder, self.data, self.settings, Prompts(self.prompts),
            seed=self.seed, advance=advance, checkpoints=self.checkpoints,
        )  # fmt: skip


def main(folder: Path) -> None:
    """Train the member of the job in a folder."""
    line = Line(folder)
    from flywheel.core.quiet import silence

    silence()
    job: Job = pickle.loads((folder / JOB).read_bytes())
    try:
        trained = job.train(line.advance)
    except BudgetSpent:
        line.end(None)
    else:
        line.end(asdict(trained))


if __name__ == "__main__":
    given = Path(sys.argv[1])
    with leaving_word(given):
        main(given)
