"""vLLM on a cluster: the engine that it is in one process, held by a worker."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vllm is not installed beside ray: make test-vllm")

from flywheel.config import EngineConfig
from flywheel.core.assets import asset
from flywheel.core.files import digest_model
from flywheel.engines.contract import Request, Sampling
from flywheel.engines.factory import load
from flywheel.instructions.prompts import Prompts
from flywheel.nano.tasks import held_out_tasks
from flywheel.workers.joining import connect
from flywheel.workers.pools import Pool, start_engine
from flywheel.workers.ray_workers import RayWorkers
from flywheel.workers.storage import Stored
from flywheel.workers.work import Step, Work, finished, generate

NANO = asset("data/nano/generator")
SETTINGS = EngineConfig(name="vllm")


def test_a_worker_generates_with_vllm_what_this_process_would(cluster: Any, prompts: Prompts, tmp_path: Path) -> None:
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=16)
    asked = [prompts.answer(task) for task in held_out_tasks()[:8]]
    chunks = [Work(request=Request(prompts=asked, n=4, sampling=sampling, seed=seed)) for seed in range(3)]
    engine = load(SETTINGS, NANO, cache=tmp_path, digest="nano")
    try:
        here = [generate(work, engine).completions for work in chunks]
    finally:
        engine.close()
    connect(cluster.address)
    start = partial(start_engine, SETTINGS, Stored(folder=NANO, digest=digest_model(NANO)), tmp_path)
    workers = RayWorkers({Step.GENERATE: Pool(start=start, size=1, cpus=1, gpus=0)}, retries=0)
    there = [finished(work).completions for work in workers.run(chunks, Step.GENERATE)]
    assert there == here
