"""Models through an object store: put there once, fetched once by a node, and never another model than was put."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fsspec import filesystem

from flywheel.config import EngineConfig
from flywheel.core.assets import asset
from flywheel.core.files import digest_model
from flywheel.engines.contract import Request, Sampling
from flywheel.engines.factory import load
from flywheel.errors import ModelError, StoreError
from flywheel.workers.joining import connect
from flywheel.workers.pools import Pool, start_engine
from flywheel.workers.ray_workers import RayWorkers
from flywheel.workers.storage import Stored, check_storage
from flywheel.workers.work import Step, Work, finished

NANO = asset("data/nano/generator")
NOWHERE = Path("/nowhere")
"""Where a node looks that does not see the disk of the driver."""


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_CACHE", str(tmp_path / "fetched"))


def stored(storage: str, folder: Path = NANO) -> Stored:
    return Stored(folder=folder, digest=digest_model(NANO), storage=storage)


def test_a_model_is_fetched_as_it_was_stored_and_once_only(bucket: str, own_cache: None) -> None:
    stored(f"{bucket}/once").store()
    fetched = stored(f"{bucket}/once", NOWHERE).fetch()
    assert digest_model(fetched) == digest_model(NANO)
    filesystem("s3").rm(f"{bucket}/once", recursive=True)
    assert stored(f"{bucket}/once", NOWHERE).fetch() == fetched


def test_what_is_there_is_not_stored_again(bucket: str) -> None:
    stored(f"{bucket}/twice").store()
    stored(f"{bucket}/twice", NOWHERE).store()


def test_an_upload_that_was_killed_is_repeated(bucket: str, own_cache: None) -> None:
    place = f"{bucket}/killed/models/{digest_model(NANO)}"
    filesystem("s3").pipe_file(f"{place}/model.safetensors", b"half of it")
    stored(f"{bucket}/killed").store()
    assert digest_model(stored(f"{bucket}/killed", NOWHERE).fetch()) == digest_model(NANO)


def test_another_model_in_its_place_is_refused_and_not_kept(bucket: str, own_cache: None) -> None:
    stored(f"{bucket}/other").store()
    place = f"{bucket}/other/models/{digest_model(NANO)}"
    filesystem("s3").pipe_file(f"{place}/model.safetensors", b"something else")
    for _ in range(2):
        with pytest.raises(ModelError, match=place) as error:
            stored(f"{bucket}/other", NOWHERE).fetch()
        assert "Delete it" in error.value.hint


@pytest.mark.parametrize("address", ["s3://Not A Bucket/models", "nothing://models"])
def test_an_address_that_leads_nowhere_is_one_clear_error(bucket: str, address: str) -> None:
    with pytest.raises(StoreError, match=rf"^[^\n]*{address}[^\n]*$"):
        check_storage(address)
    with pytest.raises(ModelError, match=rf"^[^\n]*{address}/models/[^\n]*$"):
        stored(address, NOWHERE).fetch()


def test_nodes_generate_what_this_process_would_with_a_model_from_the_store(cluster: Any, bucket: str, tmp_path: Path) -> None:
    connect(cluster.address)
    settings = EngineConfig(name="ctranslate2", workers=1)
    stored(f"{bucket}/nodes").store()
    start = partial(start_engine, settings, stored(f"{bucket}/nodes", NOWHERE), NOWHERE)
    request = Request(
        prompts=["Instruction: Write the bigger number."] * 3,
        n=2,
        sampling=Sampling(temperature=1.0, top_p=1.0, max_tokens=8),
        seed=3,
    )
    workers = RayWorkers({Step.GENERATE: Pool(start=start, size=2, cpus=1, gpus=0)}, retries=0)
    done = [finished(work) for work in workers.run([Work(request=request)] * 4, Step.GENERATE)]
    engine = load(settings, NANO, cache=tmp_path, digest="nano")
    expected = engine.generate(request.prompts, n=request.n, sampling=request.sampling, seed=request.seed)
    assert [work.completions for work in done] == [expected] * 4
