"""One process of a training: `accelerate launch … -m flywheel.training.worker JOB`, started by `launch.py`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.core.processes import run_training
from flywheel.errors import Stopped
from flywheel.training.job import Job

if TYPE_CHECKING:
    from flywheel.core.progress import Advance


def train(advance: Advance) -> dict[str, Any] | None:
    """Do this process's part; the first process has the result, or is the one that was stopped."""
    from torch import distributed

    from flywheel.training import sft

    stopped, result = None, None
    try:
        result = sft.train(Job.read(Path(sys.argv[1])), advance)
    except Stopped as reason:
        stopped = reason
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
    if os.environ.get("RANK", "0") != "0":
        return None
    if stopped:
        raise stopped
    return result


if __name__ == "__main__":
    run_training(train)
