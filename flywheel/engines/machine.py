"""What an engine may use of this machine: its device and its cores."""

from __future__ import annotations

import os

from flywheel.config import EngineConfig
from flywheel.errors import ConfigError


def device(config: EngineConfig) -> str:
    """The torch device that ``auto`` stands for; raises ConfigError where the configured one is absent."""
    import torch

    if config.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"no GPU found for `engine.device` {config.device!r}", "Set `engine.device` to cpu or auto.")
    return config.device


def workers(config: EngineConfig) -> int:
    """How many cores to generate on: all that this process may use, unless the config sets a number."""
    if config.workers:
        return config.workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
