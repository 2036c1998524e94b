"""One process of a training: `accelerate launch … -m flywheel.training.worker FOLDER`, the other side of `launch.py`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flywheel.core.processes import Line, leaving_word
from flywheel.errors import BudgetSpent
from flywheel.training.job import Job


def main(folder: Path) -> None:
    """Do this process's part; the first one tells the figures, or that it was stopped."""
    first = os.environ.get("RANK", "0") == "0"
    line = Line(folder) if first else None
    from torch import distributed

    from flywheel.core.quiet import silence
    from flywheel.training.sft import train

    silence()
    try:
        numbers = train(Job.read(folder), line.advance if line else lambda done, total: None)
    except BudgetSpent:
        numbers = None
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
    if line:
        line.end(numbers)


if __name__ == "__main__":
    given = Path(sys.argv[1])
    with leaving_word(given):
        main(given)
