"""Budgets: a call stops where they are spent, keeps what it has, and the same call goes on to the same rows."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flywheel.config import BudgetConfig, PricesConfig, TrainingConfig
from flywheel.core.assets import asset
from flywheel.core.progress import Silent
from flywheel.engines.contract import Sampling
from flywheel.errors import BudgetSpent, ConfigError
from flywheel.instructions.prompts import Prompts
from flywheel.nano.tasks import held_out_tasks
from flywheel.records import Completion, Stage, Winner
from flywheel.round.budget import Budget
from flywheel.round.loop import run_next_round
from flywheel.training import Job, train_generator, training_examples
from flywheel.workspace import Workspace
from tests.conftest import Cli, copy
from tests.test_loop import rows

pytestmark = pytest.mark.slow


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("flywheel.round.budget.time.monotonic", lambda: self.now)


def test_each_limit_is_reported_with_its_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    prices = PricesConfig(hour=3.0, million_tokens=2.0)
    Budget(BudgetConfig(), prices).spend(10**12)
    with pytest.raises(BudgetSpent, match=r"budget\.tokens = 100 .*\(120\)"):
        Budget(BudgetConfig(tokens=100), prices).spend(120)
    budget = Budget(BudgetConfig(minutes=1.5), prices)
    clock.now += 89
    budget.check()
    clock.now += 1
    with pytest.raises(BudgetSpent, match=r"budget\.minutes = 1\.5 "):
        budget.check()
    budget = Budget(BudgetConfig(cost=4.0), prices)
    clock.now += 3600
    budget.spend(499_999)
    with pytest.raises(BudgetSpent, match=r"budget\.cost = 4\.0 "):
        budget.spend(1)


def test_a_cost_needs_a_price(small: list[str]) -> None:
    from flywheel import config as configuration

    with pytest.raises(ConfigError, match=r"budget\.cost"):
        configuration.load(configuration.find("nano"), [*small, "budget.cost=1"])


@pytest.mark.parametrize("limit", ["budget.tokens=600", "budget.cost=6.5"])
def test_a_round_stopped_again_and_again_ends_with_the_same_rows(limit: str, built: Path, turned: Path, tmp_path: Path) -> None:
    workspace = Workspace(copy(built, tmp_path))
    config = workspace.config([limit, "prices.million_tokens=1000"])
    stops: list[tuple[str, ...]] = []
    for _ in range(40):
        try:
            run_next_round(workspace, config, Silent())
            break
        except BudgetSpent:
            assert rows(workspace.folder, "SELECT status FROM rounds WHERE round = 'r1'") == [("running",)]
            unfinished = rows(workspace.folder, "SELECT stage FROM stages WHERE round = 'r1' ORDER BY started_at")
            stops.append(tuple(one[0] for one in unfinished))
    assert {stage for stopped in stops for stage in stopped} >= {"propose", "answer", "evaluate"}
    for table in ("tasks", "candidates", "scores", "selections", "evaluations", "evaluation_scores", "metrics"):
        sql = f"SELECT * FROM {table} WHERE round = 'r1' ORDER BY ALL"
        assert rows(workspace.folder, sql) == rows(turned, sql), table
    spent = rows(workspace.folder, "SELECT sum(tokens), sum(cost) FROM stages WHERE round = 'r1'")[0]
    assert spent[1] == pytest.approx(spent[0] / 1000)


def test_nothing_is_begun_that_could_cost_more_than_is_left() -> None:
    class Counting:
        name, asked = "counting", 0

        def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
            self.asked += 1
            return []

        def close(self) -> None:
            return

    prices = PricesConfig(million_tokens=10.0, million_prompt_tokens=5.0)
    most = Sampling(temperature=1.0, top_p=1.0, max_tokens=100)
    # 10 prompts of 20 bytes and 4 answers each: at most 4,000 tokens for 0.04 and 200 read for 0.001.
    for limit, asked in ((0.0412, 1), (0.0408, 0)):
        inner = Counting()
        engine = Budget(BudgetConfig(cost=limit), prices).guard(inner, choices=4)
        with contextlib.ExitStack() as stack:
            if not asked:
                stack.enter_context(pytest.raises(BudgetSpent, match=r"\(spent: 0;"))
            engine.generate(["x" * 20] * 10, n=4, sampling=most, seed=0)
        assert inner.asked == asked
    budget = Budget(BudgetConfig(cost=0.05), prices)
    budget.spend(500, 1000)
    with pytest.raises(BudgetSpent, match=r"budget\.cost = 0\.05 \(spent: 0\.01;"):
        budget.guard(inner, choices=4).generate(["x" * 20] * 10, n=4, sampling=most, seed=0)
    # Two requests a prompt read it twice: 0.04 and 0.002.
    with pytest.raises(BudgetSpent, match=r"up to 0\.042\)"):
        Budget(BudgetConfig(cost=0.0412), prices).guard(inner, choices=2).generate(["x" * 20] * 10, n=4, sampling=most, seed=0)
    unpriced = Budget(BudgetConfig(cost=0.01), PricesConfig(hour=1.0))
    assert unpriced.guard(inner, choices=4) is inner


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage != Stage.PARAPHRASE])
def test_time_that_is_up_stops_every_stage(
    stage: Stage, built: Path, turned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, clock = Workspace(copy(built, tmp_path)), Clock(monkeypatch)

    class Late(Silent):
        """The time is up at the second figure that a stage tells."""

        def __init__(self) -> None:
            self.told = 0

        def to(self, done: int, total: int | None = None) -> None:
            self.told += rows(workspace.folder, "SELECT 1 FROM rounds WHERE round = 'r1'") != [] and self.at_work()
            if self.told == 2 or (self.told == 1 and stage == Stage.SELECT):
                clock.now += 1000

        def at_work(self) -> bool:
            begun = rows(workspace.folder, "SELECT stage FROM stages WHERE round = 'r1' ORDER BY started_at DESC LIMIT 1")
            return begun == [(str(stage),)]

    with pytest.raises(BudgetSpent, match=r"budget\.minutes = 10"):
        run_next_round(workspace, workspace.config(["budget.minutes=10"]), Late())
    last = rows(workspace.folder, "SELECT stage FROM stages WHERE round = 'r1' ORDER BY started_at DESC LIMIT 1")
    assert last == [(str(stage),)]
    checkpoints = list(workspace.models.glob("*.training/checkpoint-*"))
    assert bool(checkpoints) == (stage == Stage.TRAIN)
    assert run_next_round(workspace, workspace.config(), Silent()) == "r1"
    for table in ("tasks", "candidates", "evaluations", "evaluation_scores"):
        sql = f"SELECT * FROM {table} WHERE round = 'r1' ORDER BY ALL"
        assert rows(workspace.folder, sql) == rows(turned, sql), table
    assert not list(workspace.models.glob("*.training"))


def test_a_training_that_is_stopped_ends_with_the_same_weights(tmp_path: Path) -> None:
    prompts = Prompts(asset("prompts"))
    winners = [Winner(task=task, output="zebra") for task in held_out_tasks()[:48]]
    examples = list(training_examples(winners, [], prompts, proposal_share=0.0, names=(0,)))
    config = TrainingConfig(epochs=2, learning_rate=1e-3, batch_size=8, max_length=256)

    def train(folder: Path, stop_at: int | None) -> None:
        def advance(done: int, total: int) -> None:
            if done == stop_at:
                raise BudgetSpent("enough")

        job = Job(
            start=str(asset("data/nano/generator")), folder=folder, examples=examples, config=config, seed=0,
            checkpoints=tmp_path / "checkpoints" / folder.name,
        )  # fmt: skip
        train_generator(job, advance)

    train(tmp_path / "whole", None)
    with pytest.raises(BudgetSpent):
        train(tmp_path / "stopped", 5)
    assert not (tmp_path / "stopped").exists()
    train(tmp_path / "stopped", None)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not (tmp_path / "checkpoints" / "stopped").exists()


def test_a_budget_that_is_spent_is_told_in_one_line(built: Path, tmp_path: Path, cli: Cli) -> None:
    folder = copy(built, tmp_path)
    outcome = cli("-w", folder, "propose", "--set", "budget.tokens=10")
    assert (outcome.code, outcome.out) == (1, "")
    assert "budget.tokens = 10 " in outcome.stopped
