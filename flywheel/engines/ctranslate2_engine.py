"""CTranslate2: the fast engine on a CPU.

Its random numbers belong to a worker thread and are seeded once in that thread's life. So prompts are
split into shards of a fixed size, and each shard gets a thread of its own that is seeded for it: texts
repeat exactly, whatever the number of cores.
"""

from __future__ import annotations

import json
import random
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ctranslate2
from transformers import AutoTokenizer

from flywheel.config import EngineConfig
from flywheel.engines.engine import Sampling, cut_at_stop, workers
from flywheel.errors import ModelError
from flywheel.files import publish
from flywheel.records import Completion, FinishReason
from flywheel.seeds import derive

SHARD = 64
"""Prompts that are written together by one thread."""
_seeding = threading.Lock()


class CTranslate2Engine:
    """Runs a generator that CTranslate2 can convert, on all cores."""

    name = "ctranslate2"

    def __init__(self, model: Path, config: EngineConfig, *, cache: Path, digest: str) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=config.trust_remote_code)
        self._folder = convert(model, cache / f"{digest}-{config.compute_type}", config)
        self._compute_type = config.compute_type
        self._workers = workers(config)
        if self._tokenizer.eos_token is None:
            raise ModelError(f"the tokenizer of {model} has no eos_token, so no text would ever end; add one")

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        shards = [(start // SHARD, prompts[start : start + SHARD]) for start in range(0, len(prompts), SHARD)]

        def write(shard: tuple[int, Sequence[str]]) -> list[list[Completion]]:
            return self._write(shard[1], n=n, sampling=sampling, seed=derive(seed, shard[0]))

        with ThreadPoolExecutor(self._workers) as pool:
            return [completions for shard in pool.map(write, shards) for completions in shard]

    def _write(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        tokens = [self._tokenizer.convert_ids_to_tokens(ids) for ids in self._tokenizer(list(prompts)).input_ids]
        results = self._seeded(seed, tokens[0]).generate_batch(
            tokens,
            num_hypotheses=n,
            max_length=sampling.max_tokens,
            sampling_topk=0,
            sampling_topp=sampling.top_p,
            sampling_temperature=sampling.temperature,
            end_token=[self._tokenizer.eos_token],
            include_prompt_in_result=False,
            return_end_token=True,
            return_scores=True,
        )
        rng = random.Random(seed)
        return [self._completions(result, sampling, rng) for result in results]

    def _seeded(self, seed: int, tokens: list[str]) -> ctranslate2.Generator:
        """A generator whose one thread has drawn its first numbers from this seed."""
        with _seeding:
            ctranslate2.set_random_seed(seed)
            generator = ctranslate2.Generator(str(self._folder), compute_type=self._compute_type, intra_threads=1)
            # The thread takes its seed with its first draw, so make it draw before another shard changes the seed.
            generator.generate_batch([tokens], max_length=1, sampling_topk=0)
        return generator

    def _completions(self, result: ctranslate2.GenerationResult, sampling: Sampling, rng: random.Random) -> list[Completion]:
        eos = self._tokenizer.eos_token_id
        completions = []
        for ids, logprob in zip(result.sequences_ids, result.scores, strict=True):
            ended = bool(ids) and ids[-1] == eos
            text = self._tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True)
            text, reason = cut_at_stop(text, sampling.stop, FinishReason.STOP if ended else FinishReason.LENGTH)
            completions.append(Completion(text=text, tokens=len(ids), finish_reason=reason, logprob=logprob))
        # They come sorted by likelihood; positions must not carry that.
        rng.shuffle(completions)
        return completions


def convert(model: Path, folder: Path, config: EngineConfig) -> Path:
    """Convert a model's weights once; raises ModelError where CTranslate2 does not know the architecture."""
    if folder.exists():
        return folder
    converter = ctranslate2.converters.TransformersConverter(
        str(model), trust_remote_code=config.trust_remote_code, low_cpu_mem_usage=True
    )
    try:
        with publish(folder) as unfinished:
            shutil.rmtree(unfinished)
            converter.convert(str(unfinished))
            _name_missing_tokens(unfinished / "config.json")
    except (ValueError, NotImplementedError) as error:
        raise ModelError(f"CTranslate2 cannot convert {model} ({error}); set engine.name to transformers") from None
    return folder


def _name_missing_tokens(path: Path) -> None:
    """CTranslate2 refuses to load a config whose start token is null, as in tokenizers without one."""
    config = json.loads(path.read_text(encoding="utf-8"))
    for name in ("bos_token", "unk_token"):
        if config.get(name, "") is None:
            config[name] = config["eos_token"]
    path.write_text(json.dumps(config), encoding="utf-8")
