"""A training in processes that `accelerate launch` starts: what it is called with."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.core.processes import Process
from flywheel.errors import ConfigError
from flywheel.training.job import Job

if TYPE_CHECKING:
    from flywheel.core.progress import Advance


def launch(job: Job, accelerate_config: Path | None, advance: Advance) -> dict[str, Any]:
    """Do a training in as many processes as it asks for; `train_generator` says what it returns and raises."""
    on_gpus = has_gpus(job.config.processes if accelerate_config is None else 1)
    with tempfile.TemporaryDirectory(prefix="flywheel-") as name:
        folder = Path(name)
        job.write(folder)
        process = Process(
            command=_command(job, folder, accelerate_config, on_gpus=on_gpus), folder=folder, called="accelerate launch",
            where_memory_is_short="raise training.accumulate",
            environment={} if on_gpus else {"ACCELERATE_USE_CPU": "true"},
        )  # fmt: skip
        return process.run(advance)


def has_gpus(processes: int) -> bool:
    """Whether there are GPUs; raises ConfigError where they are fewer than the processes."""
    import torch

    if not torch.cuda.is_available():
        return False
    found = torch.cuda.device_count()
    if processes > found:
        raise ConfigError(
            f"training.processes is {processes}, but this machine has {found} GPU{'s' * (found > 1)}; set it to {found} or less"
        )
    return True


def _command(job: Job, folder: Path, accelerate_config: Path | None, *, on_gpus: bool) -> list[str]:
    """The command line; without a config file of the user's one that keeps accelerate from reading a default of its own."""
    if accelerate_config is None:
        accelerate_config = folder / "accelerate.json"
        accelerate_config.write_text(
            json.dumps(
                {
                    "compute_environment": "LOCAL_MACHINE",
                    "distributed_type": "MULTI_GPU",
                    "num_machines": 1,
                    "num_processes": job.config.processes,
                    "machine_rank": 0,
                    "main_process_port": 0,
                    "mixed_precision": "no",
                    "use_cpu": not on_gpus,
                }
            )
        )
    precision = "bf16" if job.config.dtype == "bfloat16" else "no"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(accelerate_config)]
    command += ["--mixed_precision", precision]
    command += ["--num_processes", str(job.config.processes)] if job.config.processes > 1 else []
    return [*command, "-m", "flywheel.training.worker", str(folder)]
