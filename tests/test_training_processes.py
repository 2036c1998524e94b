"""Fine-tuning in processes of its own, which `accelerate launch` starts."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from flywheel.config import TrainingConfig
from flywheel.core.assets import asset
from flywheel.core.processes import Line
from flywheel.errors import BudgetSpent, DataError, EngineError
from flywheel.instructions.prompts import Prompts
from flywheel.nano.tasks import held_out_tasks
from flywheel.records import Facts, Winner
from flywheel.training import Example, train_generator, training_examples

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
    return training_examples(winners, proposals, prompts, proposal_share=0.3, names=(0,))[:51]


@pytest.fixture
def one_process(tmp_path: Path) -> TrainingConfig:
    """One process, but launched: by a config file of accelerate's."""
    path = tmp_path / "accelerate.yaml"
    path.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nnum_processes: 1\nnum_machines: 1\nmachine_rank: 0\n"
        "mixed_precision: 'no'\nuse_cpu: true\n"
    )
    return CONFIG.model_copy(update={"accelerate_config": "accelerate.yaml"})


class Steps:
    """What training tells; something is done at one step."""

    def __init__(self, at: int = 0, error: BaseException | None = None, kill: bool = False) -> None:
        self.told: list[int] = []
        self.workers: list[psutil.Process] = []
        self._at, self._error, self._kill = at, error, kill

    def __call__(self, done: int, total: int) -> None:
        self.told.append(done)
        if done == self._at:
            running = psutil.Process().children(recursive=True)
            self.workers = [one for one in running if "flywheel.training.worker" in one.cmdline()]
            if self._kill:
                next(one for one in self.workers if "accelerate.commands.launch" not in one.cmdline()).send_signal(
                    signal.SIGKILL
                )
            if self._error:
                raise self._error


def train(folder: Path, examples: list[Example], config: TrainingConfig, steps: Steps | None = None) -> Facts:
    return train_generator(
        NANO, folder / "trained", examples, config,
        seed=0, advance=steps or Steps(), checkpoints=folder / "checkpoints", base=folder,
    )  # fmt: skip


def test_two_processes_make_the_weights_of_one_and_go_on_where_they_were_stopped(
    examples: list[Example], tmp_path: Path
) -> None:
    alone = train(tmp_path / "one", examples, CONFIG)
    # In the second epoch, whose order of texts is another.
    stopping = Steps(at=6, error=BudgetSpent("enough"))
    with pytest.raises(BudgetSpent, match="enough"):
        train(tmp_path / "two", examples, TWO, stopping)
    assert stopping.told == [1, 2, 3, 4, 5, 6]
    assert not (tmp_path / "two" / "trained").exists()
    going_on = Steps()
    together = train(tmp_path / "two", examples, TWO, going_on)
    assert going_on.told == [7, 8]
    assert (together.rows, together.dropped) == (alone.rows, alone.dropped)
    assert together.loss == pytest.approx(alone.loss, rel=1e-5)
    start = load_file(Path(NANO) / "model.safetensors")
    one, two = (load_file(tmp_path / name / "trained" / "model.safetensors") for name in ("one", "two"))
    assert max(float((one[name] - start[name]).abs().max()) for name in start) > 1e-3
    assert max(float((one[name] - two[name]).abs().max()) for name in start) < 1e-5
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "one" / "trained" / name).read_text() == (tmp_path / "two" / "trained" / name).read_text()
    assert not (tmp_path / "two" / "checkpoints").exists()


def test_whoever_stops_this_process_stops_the_others(examples: list[Example], tmp_path: Path) -> None:
    steps = Steps(at=2, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, examples, TWO, steps)
    assert len(steps.workers) == 3
    psutil.wait_procs(steps.workers, timeout=5)
    assert not any(one.is_running() for one in steps.workers)
    assert not (tmp_path / "trained").exists()


def test_a_training_whose_launcher_was_killed_ends(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "socket"))
        server.listen(1)
        line = Line(tmp_path)
        connection, _ = server.accept()
        connection.sendall(b"go\n")
        line.advance(1, 8)
        assert connection.recv(100) == b'{"done": 1, "total": 8}\n'
        connection.sendall(b"stop\n")
        with pytest.raises(BudgetSpent):
            line.advance(2, 8)
        connection.close()
    with pytest.raises((EOFError, ConnectionError)):
        line.advance(3, 8)


def test_what_ends_a_process_is_one_line(examples: list[Example], one_process: TrainingConfig, tmp_path: Path) -> None:
    # What a user can mend comes as from a training in this process.
    with pytest.raises(DataError, match=r"^all 51 training texts are over training\.max_length \(9\); raise it$"):
        train(tmp_path, examples, one_process.model_copy(update={"max_length": 9}))
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(EngineError, match=r"^a training process failed: \w+Error: .*checkpoints.*$"):
        train(tmp_path, examples, one_process)
    (tmp_path / "checkpoints").unlink()
    started = time.monotonic()
    with pytest.raises(EngineError, match=r"^a training process was killed, as happens where memory is short"):
        train(tmp_path, examples, one_process, Steps(at=2, kill=True))
    assert time.monotonic() - started < 120
    (tmp_path / "accelerate.yaml").write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: SPACESHIP\n")
    with pytest.raises(EngineError, match=r"^accelerate launch failed: .*SPACESHIP.*$"):
        train(tmp_path, examples, one_process)
