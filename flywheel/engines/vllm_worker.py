"""The process that vLLM runs in: takes chunks of prompts from flywheel, gives back what was written.

Started by `vllm_engine.py` with the number of a socket to talk over; ends when flywheel closes it, or is gone.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from flywheel.engines.contract import Sampling, fitting, token_ids

KV_CACHE_BYTES = 4 << 30
"""Memory for keys and values on a CPU, unless ``engine.args`` has ``kv_cache_memory_bytes``."""
Written = tuple[str, int, bool, float | None, int]
"""Text, tokens, whether it ended by itself, mean log-probability, tokens read for it."""


class Worker:
    """vLLM on one model."""

    def __init__(self, *, cpu: bool, arguments: dict[str, Any], ends: list[int]) -> None:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        if cpu:
            # Scheduling in this process repeats, and is faster than in another one where cores are few.
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
            # Compiling takes half a minute and gains little on a CPU.
            arguments = {"enforce_eager": True, "kv_cache_memory_bytes": KV_CACHE_BYTES} | arguments
        from vllm import LLM

        self._cpu, self._ends = cpu, ends
        self._llm = LLM(**({"enable_prefix_caching": True} | arguments))
        self._tokenizer = self._llm.get_tokenizer()
        self._context = self._llm.llm_engine.model_config.max_model_len

    def write(
        self, *, prompts: list[str], n: int, sampling: Sampling, seed: int, seeds: list[int]
    ) -> list[list[Written] | None]:
        """What is written for each prompt; None for one that is too long."""
        from vllm import SamplingParams

        read = token_ids(self._tokenizer, prompts)
        fits = fitting(read, sampling, self._context)
        if self._cpu:
            import torch

            # What is in the cache decides what is computed together, and that decides who draws which number.
            self._llm.reset_prefix_cache()
            torch.manual_seed(seed)
        parameters = SamplingParams(
            n=n,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            stop=list(sampling.stop),
            stop_token_ids=self._ends,
            logprobs=0,
        )
        asked = [{"prompt_token_ids": read[place]} for place in fits]
        each = parameters if self._cpu else [_seeded(parameters, seeds[place]) for place in fits]
        outputs = self._llm.generate(asked, each, use_tqdm=False)
        written: list[list[Written] | None] = [None] * len(prompts)
        for place, output in zip(fits, outputs, strict=True):
            written[place] = [
                (
                    one.text,
                    len(one.token_ids),
                    one.finish_reason == "stop",
                    one.cumulative_logprob / max(1, len(one.token_ids)),
                    len(read[place]) if number == 0 else 0,
                )
                for number, one in enumerate(output.outputs)
            ]
        return written


def _seeded(parameters: Any, seed: int) -> Any:
    copy = parameters.clone()
    copy.seed = seed
    return copy


def _watch(parent: int) -> None:
    """End with flywheel, also where it was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{lines[0][:300] if lines else 'no reason given'} ({type(error).__name__})"


def main() -> None:
    """Serve until the connection is closed."""
    connection = Connection(int(sys.argv[1]))
    threading.Thread(target=_watch, args=(int(os.environ["FLYWHEEL_PARENT"]),), daemon=True).start()
    worker: Worker | None = None
    while True:
        try:
            request = connection.recv()
        except EOFError:
            os._exit(0)  # vLLM's own way out waits for things that nobody needs any more
        try:
            if worker is None:
                worker, answer = Worker(**request), None
            else:
                answer = worker.write(**request)
        except Exception as error:  # whatever vLLM raises is told where flywheel can show it
            connection.send(("failed", _reason(error)))
        else:
            connection.send(("done", answer))


if __name__ == "__main__":
    main()
