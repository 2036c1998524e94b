"""A few kills at random moments; `make crash` does hundreds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_a_round_killed_at_random_moments_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.kills", "--kills", "5", "--json", "--folder", str(tmp_path), "--jobs", "2"]
    command += ["--only", "propose,answer,train,evaluate,export,convert"]
    # In a process of its own: what forks its victims must have no threads.
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]  # the seed is in its first line
    trials = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith("[{")))
    assert len(trials) == 5
    assert all(one["resumed"] and one["chunks_twice"] <= 1 for one in trials)
    assert not any(one["lost"] or one["twice"] or one["other"] for one in trials)
