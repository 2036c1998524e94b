"""Benchmarks run: small ones, of which nothing is concluded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["scale.py", "--sizes", "50"], "answer"),
        (["usual_script.py", "--tasks", "8", "--script-tasks", "2", "--repeats", "1"], "flywheel"),
    ],
    ids=lambda one: one[0].removesuffix(".py") if isinstance(one, list) else "",
)
def test_a_benchmark_runs(command: list[str], shown: str) -> None:
    ran = subprocess.run([sys.executable, str(BENCHMARKS / command[0]), *command[1:]], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert shown in ran.stdout
