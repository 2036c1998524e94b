"""Rounds whose generator is behind an endpoint: it writes, and a local student is trained on the winners."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flywheel import config as configuration
from flywheel.config import EngineConfig
from flywheel.core.progress import Silent
from flywheel.engines.contract import Engine
from flywheel.engines.factory import load
from flywheel.errors import RESUME, BudgetSpent, ConfigError, EngineError
from flywheel.round.loop import run_next_round
from flywheel.workspace import Workspace
from tests.conftest import Cli, copy
from tests.servers import NANO, Manners, NanoServer
from tests.test_loop import rows

pytestmark = pytest.mark.slow

KEY = "sk-this-must-never-be-seen"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with closing(load(EngineConfig(name="ctranslate2"), NANO, cache=tmp_path_factory.mktemp("c"), digest="nano")) as started:
        yield started


def through(server: NanoServer, *more: str) -> list[str]:
    return [
        "generator=nano", "engine.name=openai", f"engine.endpoint.base_url={server.url}", "engine.endpoint.retries=1",
        "training.student=asset:data/nano/generator", "prices.million_tokens=20", "prices.million_prompt_tokens=5", *more,
    ]  # fmt: skip


def test_the_endpoint_writes_and_the_student_is_trained(
    engine: Engine, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    workspace = Workspace(copy(built, tmp_path))
    with NanoServer(engine, Manners(key=KEY)) as server:
        config = workspace.config(through(server))
        assert [run_next_round(workspace, config, Silent()) for _ in range(2)] == ["r1", "r2"]
    ran = rows(
        workspace.folder,
        "SELECT r.round, g.path, json_extract_string(r.engine, 'name'), t.parent, p.generator_out FROM rounds AS r "
        "JOIN models AS g ON g.model_id = r.generator_in JOIN models AS t ON t.model_id = r.generator_out "
        "JOIN rounds AS p ON p.round = r.parent ORDER BY r.number",
    )
    assert [row[:3] for row in ran] == [("r1", "endpoint:nano", "openai"), ("r2", "endpoint:nano", "openai")]
    assert all(parent == before for _, _, _, parent, before in ran)
    answered = rows(workspace.folder, "SELECT count(*), count(DISTINCT task_id) FROM candidates WHERE round = 'r1'")
    assert answered == [(320, 80)]
    paid = "SELECT sum(tokens), sum(prompt_tokens), sum(cost) FROM stages WHERE round = 'r1' AND stage IN ('propose', 'answer')"
    tokens, read, cost = rows(workspace.folder, paid)[0]
    assert cost == pytest.approx((20 * tokens + 5 * read) / 1e6)
    assert read > tokens
    # What the student writes at home is not the endpoint's to charge for.
    assert rows(workspace.folder, "SELECT sum(cost) FROM stages WHERE stage = 'evaluate' AND round = 'r1'") == [(0.0,)]
    everything = b"".join(path.read_bytes() for path in workspace.folder.rglob("*") if path.is_file())
    assert KEY.encode() not in everything
    outcomes = [
        cli("-w", workspace.folder, *asked)
        for asked in (
            ("show", "r1"), ("sql", "SELECT * FROM rounds", "--json"), ("sql", "SELECT * FROM models", "--json"), ("doctor",),
            ("report", "--out", tmp_path / "report.html"), ("export", "r1", "--to", tmp_path / "set", "--format", "jsonl"),
        )
    ]  # fmt: skip
    assert all(outcome.code == 0 and KEY not in outcome.out + outcome.err for outcome in outcomes[:3] + outcomes[4:])
    assert KEY not in outcomes[3].out + outcomes[3].err
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_server_that_dies_loses_nothing_and_another_resumes(engine: Engine, built: Path, tmp_path: Path) -> None:
    workspace = Workspace(copy(built, tmp_path))

    class Dying(NanoServer):
        """Answers 60 tasks."""

        def post(self, request: object, content: bytes) -> object:  # type: ignore[override]
            if sum(request.get("n") == 4 for request in self.asked) > 60:
                self.stop()
                return None
            return super().post(request, content)  # type: ignore[arg-type]

    with NanoServer(engine) as whole:
        dying = Dying(engine)
        with pytest.raises(EngineError) as caught:
            run_next_round(workspace, workspace.config(through(dying)), Silent())
        assert RESUME in caught.value.hint
        assert rows(workspace.folder, "SELECT status FROM rounds WHERE round = 'r1'") == [("failed",)]
        kept = "SELECT task_id, candidate, output FROM candidates WHERE round = 'r1' ORDER BY ALL"
        before = rows(workspace.folder, kept)
        assert len(before) == 48 * 4
        # The address is not part of what a round is.
        assert run_next_round(workspace, workspace.config(through(whole)), Silent()) == "r1"
    after = rows(workspace.folder, kept)
    assert set(before) < set(after)
    assert len(after) == 320
    assert rows(workspace.folder, "SELECT DISTINCT count(*) FROM candidates WHERE round = 'r1' GROUP BY task_id") == [(4,)]


def test_a_hard_budget_is_never_passed(engine: Engine, built: Path, tmp_path: Path) -> None:
    workspace = Workspace(copy(built, tmp_path))
    with NanoServer(engine) as server:
        config = workspace.config(through(server, "budget.cost=0.3"))
        for _ in range(3):
            with pytest.raises(BudgetSpent, match=r"budget\.cost"):
                run_next_round(
                    workspace, config.model_copy(update={"sampling": config.sampling.model_copy(update={"n": 64})}), Silent()
                )
    spent = rows(workspace.folder, "SELECT sum(cost) FROM stages WHERE round = 'r1'")[0][0]
    assert 0 < spent < 0.3


def test_an_invalid_student_is_refused(engine: Engine, small: list[str], tmp_path: Path, cli: Cli) -> None:
    with NanoServer(engine) as server:
        sets = through(server)
        with pytest.raises(ConfigError, match=r"training\.student"):
            configuration.load(configuration.find("nano"), [setting for setting in sets if "student" not in setting])
        options = [option for setting in [*small, *sets, "training.student=/nowhere"] for option in ("--set", setting)]
        outcome = cli("-w", tmp_path / "w", "round", *options)
        assert (outcome.code, outcome.out) == (1, "")
        assert "/nowhere" in outcome.error
        assert outcome.hint
