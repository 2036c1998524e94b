"""A training in processes of its own, started by `accelerate launch`: this side of it.

The processes' first one tells each step through a socket and waits for the word to go on, so that a budget stops it at a step
as it does here. Whatever ends this side, a kill too, breaks the connection, and with it the training.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel import errors
from flywheel.errors import ConfigError, EngineError, FlywheelError, Stopped
from flywheel.training.job import Job
from flywheel.training.worker import ERROR, SOCKET

if TYPE_CHECKING:
    from flywheel.checkpoints import Advance

PATIENCE_S = 60
"""How long processes may take to end: torch gives them half of it."""


def launch(job: Job, accelerate_config: Path | None, advance: Advance) -> dict[str, Any]:
    """Do a training in as many processes as it asks for; `train_generator` says what it returns and raises."""
    on_gpus = has_gpus(job.config.processes if accelerate_config is None else 1)
    with tempfile.TemporaryDirectory(prefix="flywheel-") as name:
        folder = Path(name)
        job.write(folder)
        command = _command(job, folder, accelerate_config, on_gpus=on_gpus)
        with _listening(folder / SOCKET) as server, _running(command, folder, on_gpus=on_gpus) as process:
            numbers = _follow(server, process, advance)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_S)
            if numbers is None:
                raise _failure(folder)
            return numbers


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


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        try:
            server.bind(str(path))
        except OSError as error:
            raise EngineError(
                f"cannot listen for the training's processes at {path}: {error}; set TMPDIR to another place"
            ) from None
        server.listen(1)
        server.settimeout(0.2)
        yield server


@contextlib.contextmanager
def _running(command: list[str], folder: Path, *, on_gpus: bool) -> Iterator[subprocess.Popen[bytes]]:
    """The processes for the length of a with block, in a session of their own: a Ctrl-C here reaches them through here."""
    environment = os.environ | ({} if on_gpus else {"ACCELERATE_USE_CPU": "true"})
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, start_new_session=True
        )
    try:
        yield process
    finally:
        for signalled in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, signalled)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE_S)


def _follow(server: socket.socket, process: subprocess.Popen[bytes], advance: Advance) -> dict[str, Any] | None:
    """Hear the first process out; returns its figures, None where it broke off, and raises why it was stopped."""
    while True:
        try:
            connection, _ = server.accept()
            break
        except TimeoutError:
            if process.poll() is not None:
                return None
    stopped: Stopped | None = None
    # Where the line breaks, the processes say why.
    with connection, connection.makefile(encoding="utf-8") as lines, contextlib.suppress(ConnectionError):
        connection.settimeout(None)
        for line in lines:
            told = json.loads(line)
            if "numbers" in told:
                if told["numbers"] is None and stopped:
                    raise stopped
                return dict(told["numbers"])
            try:
                advance(told["done"], told["total"])
            except Stopped as reason:
                stopped = reason
            connection.sendall(b"stop\n" if stopped else b"go\n")
    return None


def _failure(folder: Path) -> FlywheelError:
    """What ended the training, in one line: the first process to say so is the one that the others fell over."""
    found = sorted(folder.glob(ERROR), key=lambda path: path.stat().st_mtime_ns)
    said = [json.loads(path.read_text(encoding="utf-8")) for path in found]
    for error in said:
        kind = getattr(errors, error["kind"], None)
        if isinstance(kind, type) and issubclass(kind, FlywheelError):
            return kind(error["said"])
    printed = (folder / "stderr").read_text(encoding="utf-8", errors="replace")
    if re.search(r"Signal 9 \(SIGKILL\)|died with <Signals\.SIGKILL", printed):
        return EngineError("a training process was killed, as happens where memory is short; raise training.accumulate")
    if said:
        return EngineError(f"a training process failed: {said[0]['kind']}: {said[0]['said']}")
    raised = re.findall(r"^[\w.]+(?:Error|Exception)\b.*", printed, re.MULTILINE) or printed.split("\n")
    return EngineError(
        f"accelerate launch failed: {next((line for line in reversed(raised) if line.strip()), 'it says nothing')}"
    )
