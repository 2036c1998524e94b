"""Whole rounds on vLLM, in process and through its server, beside the same round on CTranslate2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest

pytest.importorskip("vllm")

from flywheel.core.progress import Silent
from flywheel.round.loop import run_next_round
from flywheel.workspace import Workspace
from tests.conftest import copy
from tests.test_loop import rows
from tests.vllm_server import VLLM_KEY, vllm_server


def held_out(folder: Path) -> np.ndarray:
    """Mean judge of r1 for each held-out task, in order of the tasks."""
    sql = (
        "SELECT avg(s.score) FROM evaluation_scores AS s JOIN rounds AS r ON r.round = s.round AND r.judge = s.model_id "
        "WHERE s.round = 'r1' GROUP BY s.task_id ORDER BY s.task_id"
    )
    return np.array([row[0] for row in rows(folder, sql)])


@pytest.fixture(scope="module")
def reference(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same round on CTranslate2."""
    return round_on(built, tmp_path_factory.mktemp("ctranslate2"), "engine.name=ctranslate2")


def round_on(built: Path, folder: Path, *sets: str) -> Path:
    workspace = Workspace(copy(built, folder))
    assert run_next_round(workspace, workspace.config([*sets, "instructions.tasks=150"]), Silent()) == "r1"
    return workspace.folder


def whole(folder: Path, engine: str) -> None:
    """Every row that a finished round has."""
    state = "SELECT status, json_extract_string(engine, 'name') FROM rounds WHERE round = 'r1'"
    assert rows(folder, state) == [("done", engine)]
    assert rows(folder, "SELECT count(*), count(DISTINCT task_id) FROM candidates WHERE round = 'r1'") == [(600, 150)]
    assert rows(folder, "SELECT count(*) FROM evaluations WHERE round = 'r1'") == [(240,)]
    assert rows(folder, "SELECT count(*) FROM candidates WHERE round = 'r1' AND logprob IS NULL") == [(0,)]
    assert rows(folder, "SELECT bool_and(prompt_tokens > 0) FROM stages WHERE stage IN ('propose', 'answer')") == [(True,)]


def within_noise(one: Path, other: Path) -> bool:
    """Whether the paired difference of the judge is less than three standard errors."""
    difference = held_out(one) - held_out(other)
    return bool(abs(difference.mean()) < 3 * difference.std(ddof=1) / np.sqrt(len(difference)))


def test_a_round_on_vllm(built: Path, reference: Path, tmp_path: Path) -> None:
    folder = round_on(built, tmp_path, "engine.name=vllm")
    whole(folder, "vllm")
    assert within_noise(folder, reference)
    # Its process is gone, and with it its memory.
    assert not [one for one in psutil.Process().children(recursive=True) if "vllm" in " ".join(one.cmdline()).lower()]


def test_a_round_through_a_vllm_server(built: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", VLLM_KEY)
    with vllm_server(tmp_path / "log") as server:
        folder = round_on(
            built, tmp_path, "engine.name=openai", "generator=nano", f"engine.endpoint.base_url={server.url}",
            "training.student=asset:data/nano/generator",
        )  # fmt: skip
    whole(folder, "openai")
    assert within_noise(folder, reference)
