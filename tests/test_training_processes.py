"""Fine-tuning in processes that `accelerate launch` starts."""

from __future__ import annotations

import json
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from flywheel.config import TrainingConfig
from flywheel.core.assets import asset
from flywheel.errors import BudgetSpent, DataError, EngineError
from flywheel.instructions.prompts import Prompts
from flywheel.nano.tasks import held_out_tasks
from flywheel.records import Facts, Winner
from flywheel.training import Example, Job, train_generator, training_examples

pytestmark = pytest.mark.slow

NANO = str(asset("data/nano/generator"))
CONFIG = TrainingConfig(epochs=2, learning_rate=1e-3, batch_size=16, max_length=256, batching="grouped")
TWO = CONFIG.model_copy(update={"processes": 2})


@pytest.fixture(autouse=True)
def _without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes want a GPU each where there are any."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(scope="module")
def examples(prompts: Prompts) -> list[Example]:
    """Of two shapes, and so many that the last batch is short of one process's share."""
    tasks = held_out_tasks()
    winners = [Winner(task=task, output="zebra") for task in tasks[:40]]
    proposals = [(tasks[start : start + 3], tasks[start + 3]) for start in range(0, 80, 4)]
    return list(training_examples(winners, proposals, prompts, proposal_share=0.3, names=(0,)))[:51]


@pytest.fixture
def one_process(tmp_path: Path) -> TrainingConfig:
    """One process, but launched: by a config file of accelerate's."""
    path = tmp_path / "accelerate.yaml"
    path.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nnum_processes: 1\nnum_machines: 1\nmachine_rank: 0\n"
        "mixed_precision: 'no'\nuse_cpu: true\n"
    )
    return CONFIG.model_copy(update={"accelerate_config": str(path)})


class Steps:
    """The steps of a training; something happens at one of them."""

    def __init__(self, at: int = 0, error: BaseException | None = None, kill: bool = False) -> None:
        self.done: list[int] = []
        self.workers: list[psutil.Process] = []
        self._at, self._error, self._kill = at, error, kill

    def __call__(self, done: int, total: int) -> None:
        self.done.append(done)
        if done == self._at:
            self.workers = workers(psutil.Process())
            if self._kill:
                rank = next(worker for worker in self.workers if "accelerate.commands.launch" not in worker.cmdline())
                rank.send_signal(signal.SIGKILL)
            if self._error:
                raise self._error


def workers(parent: psutil.Process) -> list[psutil.Process]:
    return [process for process in parent.children(recursive=True) if "flywheel.training.launch" in process.cmdline()]


def train(
    folder: Path, examples: list[Example], config: TrainingConfig, steps: Steps | None = None, start: str = NANO
) -> Facts:
    job = Job(
        start=start, folder=folder / "trained", examples=examples, config=config, seed=0, checkpoints=folder / "checkpoints",
        accelerate_config=Path(config.accelerate_config) if config.accelerate_config else None,
    )  # fmt: skip
    return train_generator(job, steps or Steps())


def test_two_processes_make_the_weights_of_one_and_resume_where_they_were_stopped(
    examples: list[Example], tmp_path: Path
) -> None:
    alone = train(tmp_path / "one", examples, CONFIG)
    # In the second epoch, whose order of texts is another.
    stopping = Steps(at=6, error=BudgetSpent("enough"))
    with pytest.raises(BudgetSpent, match="enough"):
        train(tmp_path / "two", examples, TWO, stopping)
    assert stopping.done == [1, 2, 3, 4, 5, 6]
    assert not (tmp_path / "two" / "trained").exists()
    resumed = Steps()
    together = train(tmp_path / "two", examples, TWO, resumed)
    assert resumed.done == [7, 8]
    assert (together.rows, together.dropped) == (alone.rows, alone.dropped)
    assert together.loss == pytest.approx(alone.loss, rel=1e-5)
    start = load_file(Path(NANO) / "model.safetensors")
    one, two = (load_file(tmp_path / name / "trained" / "model.safetensors") for name in ("one", "two"))
    assert max(float((one[name] - start[name]).abs().max()) for name in start) > 1e-3
    assert max(float((one[name] - two[name]).abs().max()) for name in start) < 1e-5
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "one" / "trained" / name).read_text() == (tmp_path / "two" / "trained" / name).read_text()
    assert not (tmp_path / "two" / "checkpoints").exists()


def test_ctrl_c_ends_the_processes(examples: list[Example], tmp_path: Path) -> None:
    steps = Steps(at=2, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, examples, TWO, steps)
    assert len(steps.workers) == 3
    assert psutil.wait_procs(steps.workers, timeout=5)[1] == []
    assert not (tmp_path / "trained").exists()


SCRIPT = """
import pickle, sys
from pathlib import Path
from flywheel.training import train_generator

train_generator(pickle.loads(Path(sys.argv[1]).read_bytes()), lambda done, total: print(done, flush=True))
"""


def test_the_processes_of_a_killed_script_end(examples: list[Example], tmp_path: Path) -> None:
    job = Job(
        start=NANO, folder=tmp_path / "trained", examples=examples, config=TWO.model_copy(update={"epochs": 10_000}), seed=0,
        checkpoints=tmp_path / "checkpoints",
    )  # fmt: skip
    (tmp_path / "job").write_bytes(pickle.dumps(job))
    running = psutil.Popen([sys.executable, "-c", SCRIPT, str(tmp_path / "job")], stdout=subprocess.PIPE)
    assert running.stdout.readline() == b"1\n"
    processes = workers(running)
    assert len(processes) == 3
    running.kill()
    running.communicate()
    assert psutil.wait_procs(processes, timeout=60)[1] == []


def test_what_ends_a_process_is_one_clear_error(examples: list[Example], one_process: TrainingConfig, tmp_path: Path) -> None:
    too_short = {"max_length": 9}
    with pytest.raises(DataError) as error:
        train(tmp_path, examples, one_process.model_copy(update=too_short))
    with pytest.raises(DataError) as error_here:
        train(tmp_path, examples, CONFIG.model_copy(update=too_short))
    assert error.value.args == error_here.value.args
    shutil.copytree(NANO, tmp_path / "broken")
    (tmp_path / "broken" / "config.json").write_text(json.dumps({"model_type": "spaceship"}))
    with pytest.raises(EngineError, match=r"^a training process failed: \w+Error: [^\n]+$"):
        train(tmp_path, examples, one_process, start=str(tmp_path / "broken"))
    started = time.monotonic()
    with pytest.raises(EngineError, match="killed") as killed:
        train(tmp_path, examples, one_process, Steps(at=2, kill=True))
    assert "`training.accumulate`" in killed.value.hint
    assert time.monotonic() - started < 120
    (tmp_path / "accelerate.yaml").write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: SPACESHIP\n")
    with pytest.raises(EngineError, match=r"^a training process failed: [^\n]*SPACESHIP[^\n]*$"):
        train(tmp_path, examples, one_process)
