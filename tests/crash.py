"""Run `flywheel round` with some options and die by SIGKILL at a stage: before its n-th chunk is committed, or right after.

``interrupt`` is Ctrl-C right after it. Engines replay FLYWHEEL_TEST_SCRIPT where it is set.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from flywheel.cli import main
from flywheel.engines import generator
from flywheel.records import Chunk, Stage
from flywheel.store.store import Store
from tests.instructions.scripts import ScriptedEngine

workspace, stage, moment, number = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
commit, seen = Store.commit, 0


def commit_and_die(self: Store, name: str, at: Stage, chunk: Chunk[Any], *, seconds: float, cost: float) -> None:
    global seen
    seen += at == stage
    if at == stage and seen == number and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    commit(self, name, at, chunk, seconds=seconds, cost=cost)
    if at == stage and seen == number:
        os.kill(os.getpid(), signal.SIGINT if moment == "interrupt" else signal.SIGKILL)


Store.commit = commit_and_die  # type: ignore[method-assign]
if script := os.environ.get("FLYWHEEL_TEST_SCRIPT"):
    generator.load = lambda *arguments, **options: ScriptedEngine(json.loads(script))
sys.argv = ["flywheel", "--workspace", workspace, "round", *sys.argv[5:]]
main()
