"""The process that vLLM runs in: takes chunks of prompts from flywheel, returns completions.

`vllm_engine.py` starts it; it exits when flywheel closes the pipe between them, or is gone.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from flywheel.core.functions import reason_of
from flywheel.core.processes import parent_connection
from flywheel.core.seeds import derive
from flywheel.engines.contract import Sampling
from flywheel.engines.texts import Reader, too_long
from flywheel.engines.vllm_engine import CHECK
from flywheel.errors import EngineError, FlywheelError
from flywheel.records import Completion, FinishReason

KV_CACHE_BYTES = 4 << 30
"""Memory for keys and values on a CPU, unless ``engine.args`` has ``kv_cache_memory_bytes``."""


class Worker:
    """vLLM on one model."""

    def __init__(self, *, cpu: bool, arguments: dict[str, Any]) -> None:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        if cpu:
            # Scheduling in this process is repeatable, and faster where cores are few.
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
            # Compilation takes half a minute and gains little on a CPU.
            arguments = {"enforce_eager": True, "kv_cache_memory_bytes": KV_CACHE_BYTES} | arguments
        from vllm import LLM

        self._cpu = cpu
        self._llm = LLM(**({"enable_prefix_caching": True} | arguments))
        context = self._llm.llm_engine.model_config.max_model_len
        self._reader = Reader(Path(arguments["model"]), self._llm.get_tokenizer(), context=context)

    def generate(self, *, prompts: list[str], n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        from vllm import SamplingParams

        ids, fits = self._reader.read(prompts, sampling)
        if self._cpu:
            import torch

            # The cache decides what is computed together, and that decides which candidate draws which random number.
            self._llm.reset_prefix_cache()
            torch.manual_seed(seed)
        tokens = [{"prompt_token_ids": ids[place]} for place in fits]
        parameters = [
            SamplingParams(
                n=n,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_tokens,
                stop=list(sampling.stop),
                stop_token_ids=self._reader.ends,
                logprobs=0,
                seed=None if self._cpu else derive(seed, place),
            )
            for place in fits
        ]
        completions = [too_long(n) for _ in prompts]
        for place, output in zip(fits, self._llm.generate(tokens, parameters, use_tqdm=False), strict=True):
            completions[place] = [
                Completion(
                    text=candidate.text,
                    tokens=len(candidate.token_ids),
                    finish_reason=FinishReason.STOP if candidate.finish_reason == "stop" else FinishReason.LENGTH,
                    logprob=candidate.cumulative_logprob / max(1, len(candidate.token_ids)),
                    prompt_tokens=len(ids[place]) if number == 0 else 0,
                )
                for number, candidate in enumerate(output.outputs)
            ]
        return completions


def _exit_with(parent: int) -> None:
    """Exit when flywheel is gone, even if it was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> None:
    """Serve until the connection is closed."""
    connection = parent_connection()
    threading.Thread(target=_exit_with, args=(os.getppid(),), daemon=True).start()
    worker: Worker | None = None
    while True:
        try:
            request = connection.recv()
        except EOFError:
            os._exit(0)  # vLLM's own shutdown waits for things that nobody needs any more
        try:
            answer: Any = worker.generate(**request) if worker else None
            worker = worker or Worker(**request)
        except Exception as error:  # whatever vLLM raises is reported where flywheel can show it
            failed = EngineError(f"vLLM failed: {reason_of(error)[:300]}", CHECK)
            answer = error if isinstance(error, FlywheelError) else failed
        connection.send(answer)


if __name__ == "__main__":
    main()
