"""CTranslate2: the fast engine on a CPU.

Its random numbers belong to a worker thread and are seeded once in that thread's life. So prompts are split into shards of a
fixed size, and each shard gets its own thread, seeded for it: texts repeat exactly, whatever the number of cores.
"""

from __future__ import annotations

import json
import random
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path

import ctranslate2
from filelock import FileLock
from transformers import AutoConfig, AutoTokenizer

from flywheel.config import EngineConfig
from flywheel.core.faults import short_of_memory
from flywheel.core.files import publish
from flywheel.core.seeds import derive
from flywheel.engines.contract import Sampling
from flywheel.engines.machine import device, workers
from flywheel.engines.texts import Reader, too_long
from flywheel.errors import ConfigError, EngineError, ModelError
from flywheel.records import Completion

BATCH = 64
"""Candidates that are computed together: the fastest of 64 to 2,000, on two cores."""
TINY_BYTES = 64 << 20
"""A model smaller than this generates a batch in little more time than it takes to load."""
SHARD, TINY_SHARD = 128, 512
"""Candidates of a shard, and of a tiny model's. Part of the results."""
TINY_PROMPTS = 128
"""The most prompts of a tiny model's shard, so that a chunk with few candidates for each keeps several cores busy."""
_seeding = threading.Lock()


class CTranslate2Engine:
    """Runs a generator that CTranslate2 can convert, on all cores."""

    def __init__(self, model: Path, config: EngineConfig, *, cache: Path, digest: str) -> None:
        check_machine(config)
        self._reader = Reader(model, AutoTokenizer.from_pretrained(model, trust_remote_code=config.trust_remote_code))
        self._folder = convert(model, cache / f"{digest}-{config.compute_type}", config)
        self._compute_type = config.compute_type
        self._tiny = (self._folder / "model.bin").stat().st_size < TINY_BYTES
        self._workers = workers(config)

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        ids, fits = self._reader.read(prompts, sampling)
        completions = [too_long(n) for _ in prompts]
        # CTranslate2 reads a batch together up to the length of its shortest prompt and the rest token by token, so prompts of
        # one length belong together. The longest come first, so that no core is left with the largest shard at the end.
        fits.sort(key=lambda place: len(ids[place]), reverse=True)
        size = max(1, min(TINY_PROMPTS, TINY_SHARD // n) if self._tiny else SHARD // n)
        shards = [fits[start : start + size] for start in range(0, len(fits), size)]

        def run(number: int) -> list[list[Completion]]:
            shard = [ids[place] for place in shards[number]]
            return self._generate(shard, n=n, sampling=sampling, seed=derive(seed, number))

        for place, group in zip(fits, chain.from_iterable(self._run_all(run, len(shards))), strict=True):
            completions[place] = group
        return completions

    def close(self) -> None:
        """Nothing to free: weights are in memory only while a shard runs."""

    def _run_all(self, run: Callable[[int], list[list[Completion]]], shards: int) -> list[list[list[Completion]]]:
        """Every shard's completions; out of memory, the shards run one after another, with the same results."""
        try:
            # Never in the caller's thread: CTranslate2 limits that to one core, and torch would then sum in another order.
            with ThreadPoolExecutor(self._workers) as pool:
                return list(pool.map(run, range(shards)))
        except (MemoryError, RuntimeError) as error:
            if not short_of_memory(error):
                raise
            if self._workers == 1:
                hint = "Close other programs, or set `engine.compute_type` to int8; a started round then needs --restart."
                raise EngineError("CTranslate2 ran out of memory, even on one core", hint) from None
        self._workers = 1
        return self._run_all(run, shards)

    def _generate(self, prompts: Sequence[list[int]], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        tokens = [self._reader.tokenizer.convert_ids_to_tokens(ids) for ids in prompts]
        results = self._seeded(seed, tokens[0]).generate_batch(
            tokens,
            max_batch_size=max(1, BATCH // n),
            num_hypotheses=n,
            max_length=sampling.max_tokens,
            sampling_topk=0,
            sampling_topp=sampling.top_p,
            sampling_temperature=sampling.temperature,
            end_token=self._reader.ends,
            include_prompt_in_result=False,
            return_end_token=True,
            return_scores=True,
        )
        rng = random.Random(seed)
        sequences = [ids for result in results for ids in result.sequences_ids]
        texts = iter(self._reader.tokenizer.batch_decode(sequences, skip_special_tokens=True))
        groups = []
        for result, prompt in zip(results, prompts, strict=True):
            scored = zip(result.sequences_ids, result.scores, strict=True)
            group = [self._reader.completion(ids, next(texts), logprob, sampling) for ids, logprob in scored]
            # They come sorted by likelihood, which the order must not reveal.
            rng.shuffle(group)
            groups.append([replace(group[0], prompt_tokens=len(prompt)), *group[1:]])
        return groups

    def _seeded(self, seed: int, tokens: list[str]) -> ctranslate2.Generator:
        """A generator whose one thread is seeded."""
        with _seeding:
            ctranslate2.set_random_seed(seed)
            try:
                generator = ctranslate2.Generator(str(self._folder), compute_type=self._compute_type, intra_threads=1)
            except RuntimeError as error:
                if short_of_memory(error):
                    raise
                message = f"the converted model in {self._folder} is corrupt: {' '.join(str(error).split())}"
                raise ModelError(message, "Delete the folder: the next run converts the model again.") from None
            # The thread is seeded at its first draw, so make it draw before another shard changes the seed.
            generator.generate_batch([tokens], max_length=1, sampling_topk=0)
        return generator


def check_machine(config: EngineConfig) -> None:
    """Raise ConfigError for a device or a compute type that CTranslate2 does not support on this machine."""
    if device(config) != "cpu" and config.device != "auto":
        message = f"ctranslate2 runs on the CPU only, but `engine.device` is {config.device!r}"
        raise ConfigError(message, "Set `engine.name` to vllm or transformers, or `engine.device` to cpu.")
    if config.compute_type not in ctranslate2.get_supported_compute_types("cpu"):
        message = f"this CPU does not support `engine.compute_type` {config.compute_type!r} in CTranslate2"
        raise ConfigError(message, "Set `engine.compute_type` to float32 or int8.")


def converts(model: Path, *, trust_remote_code: bool = False) -> bool:
    """Whether CTranslate2 knows the architecture of a model."""
    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
    except (ValueError, OSError):
        return False
    return type(config).__name__ in ctranslate2.converters.transformers._MODEL_LOADERS


def convert(model: Path, folder: Path, config: EngineConfig) -> Path:
    """Convert a model's weights, unless that is done; raises ModelError for an architecture that CTranslate2 does not know."""
    # Workers on one machine start at the same time.
    with FileLock(Path(tempfile.gettempdir()) / f"flywheel-{derive(folder.resolve())}.lock"):
        # A user may have removed some of the files that CTranslate2 reads, to free space.
        if all(any(folder.glob(name)) for name in ("model.bin", "config.json", "vocabulary.*")):
            return folder
        converter = ctranslate2.converters.TransformersConverter(
            str(model), trust_remote_code=config.trust_remote_code, low_cpu_mem_usage=True
        )
        quantization = None if config.compute_type == "float32" else config.compute_type
        try:
            with publish(folder) as unfinished:
                converter.convert(str(unfinished), quantization=quantization, force=True)
                # Of tokenizers without a start token: CTranslate2 does not load a config with null tokens.
                settings = json.loads((path := unfinished / "config.json").read_text(encoding="utf-8"))
                missing = [name for name in ("bos_token", "unk_token") if settings.get(name, "") is None]
                settings |= dict.fromkeys(missing, settings["eos_token"])
                path.write_text(json.dumps(settings), encoding="utf-8")
        except (ValueError, NotImplementedError) as error:
            raise ModelError(f"CTranslate2 cannot convert {model}: {error}", "Set `engine.name` to transformers.") from None
    return folder
