"""A training in processes that `accelerate launch` starts; each runs this module with the file of the job."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from flywheel.config import TrainingConfig
from flywheel.core.processes import Process, run_training
from flywheel.core.progress import Advance
from flywheel.errors import ConfigError, Stopped
from flywheel.records import Facts
from flywheel.training.job import Job


def launch(job: Job, advance: Advance) -> Facts:
    """Do a training in ``training.processes`` processes; returns and raises what `train_generator` does."""
    processes, accelerate_config = job.config.processes, job.accelerate_config
    on_gpus = has_gpus(job.config)
    with job.scratch() as folder:
        job.write(folder / "job.pickle")
        if accelerate_config is None:
            accelerate_config = folder / "accelerate.json"
            # All of it, or accelerate reads the rest from the default file of this machine's user.
            settings = {
                "compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU", "num_machines": 1, "machine_rank": 0,
                "num_processes": processes, "main_process_port": 0, "mixed_precision": "no", "use_cpu": not on_gpus,
            }  # fmt: skip
            accelerate_config.write_text(json.dumps(settings))
        module = (
            "accelerate.commands.launch", "--config_file", str(accelerate_config),
            "--mixed_precision", "bf16" if job.config.dtype == "bfloat16" else "no",
            *(["--num_processes", str(processes)] if processes > 1 else []),
            "-m", "flywheel.training.launch", str(folder / "job.pickle"),
        )  # fmt: skip
        environment = {} if on_gpus else {"ACCELERATE_USE_CPU": "true"}
        with Process(*module, environment=environment) as process:
            result: Facts = process.result(advance)
            return result


def has_gpus(config: TrainingConfig) -> bool:
    """Whether there are GPUs; raises ConfigError where there are fewer than processes, unless a config file says which."""
    import torch

    if not torch.cuda.is_available():
        return False
    count = torch.cuda.device_count()
    if config.accelerate_config is None and config.processes > count:
        raise ConfigError(
            f"`training.processes` is {config.processes}, but this machine has {count} GPU{'s' * (count > 1)}",
            f"Set `training.processes` to at most {count}.",
        )
    return True


def _train_part(advance: Advance) -> Facts | None:
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
    run_training(_train_part)
