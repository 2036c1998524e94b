"""transformers: any causal language model, on a CPU or a GPU.

Every candidate has its own random numbers, drawn before it is generated: its text does not depend on the rest of its batch,
so a batch can be as large as memory allows.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteriaList,
    StopStringCriteria,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from flywheel.config import EngineConfig
from flywheel.core.faults import short_of_memory
from flywheel.core.seeds import derive
from flywheel.engines.contract import Sampling
from flywheel.engines.machine import device
from flywheel.engines.texts import Reader, too_long
from flywheel.errors import ConfigError, EngineError
from flywheel.records import Completion


class TransformersEngine:
    """Runs any model that AutoModelForCausalLM loads."""

    def __init__(self, model: Path, config: EngineConfig) -> None:
        self._device = device(config)
        if config.compute_type == "int8":
            message = "`engine.compute_type` 'int8' needs ctranslate2, but the engine is transformers"
            raise ConfigError(message, "Set `engine.compute_type` to float32 or bfloat16.")
        tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left", trust_remote_code=config.trust_remote_code)
        self._reader = Reader(model, tokenizer)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._model = AutoModelForCausalLM.from_pretrained(
            model, dtype=getattr(torch, config.compute_type), use_safetensors=True, trust_remote_code=config.trust_remote_code
        )
        self._model.to(self._device).eval()
        self._batch_tokens = config.batch_tokens

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        ids, places = self._reader.read(prompts, sampling)
        completions = [too_long(n) for _ in prompts]
        # The longest first: if memory is short, the first batch shows it.
        places.sort(key=lambda place: len(ids[place]), reverse=True)
        while places:
            tokens = (len(ids[places[0]]) + sampling.max_tokens) * n
            batch = places[: max(1, self._batch_tokens // tokens)]
            groups: list[list[Completion]] = []
            try:
                groups = self._generate([ids[place] for place in batch], [derive(seed, place) for place in batch], n, sampling)
            except (MemoryError, RuntimeError) as error:
                if not short_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise EngineError(
                        f"out of memory on {self._device}: {n} candidates of {tokens // n} tokens",
                        "Lower the candidates (`sampling.n`, `evaluation.samples`, `instructions.best_of`) or their "
                        "`max_tokens`, or set `engine.compute_type` to bfloat16; a started round then needs --restart.",
                    ) from None
            if not groups:  # from now on no batch is as large
                self._free()
                self._batch_tokens = len(batch) // 2 * tokens
            for place, group in zip(batch, groups, strict=False):
                completions[place] = group
            places = places[len(groups) :]
        return completions

    def close(self) -> None:
        del self._model
        self._free()

    def _free(self) -> None:
        gc.collect()
        if self._device != "cpu":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _generate(self, prompts: list[list[int]], seeds: list[int], n: int, sampling: Sampling) -> list[list[Completion]]:
        tokenizer = self._reader.tokenizer
        batch = tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(self._device)
        ids, mask = (batch[name].repeat_interleave(n, dim=0) for name in ("input_ids", "attention_mask"))
        # One random number a token, in the order of the candidates, whatever batch they are in.
        uniform = np.concatenate([np.random.default_rng(seed).random((n, sampling.max_tokens)) for seed in seeds])
        sampler = _Sampler(torch.from_numpy(uniform).to(self._device), sampling)
        criteria = [StopStringCriteria(tokenizer, list(sampling.stop))] if sampling.stop else []
        sequences = self._model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=self._prompt_cache(batch["input_ids"], batch["attention_mask"], n),
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=sampling.max_tokens,
                eos_token_id=self._reader.ends,
                pad_token_id=tokenizer.pad_token_id,
            ),
            logits_processor=LogitsProcessorList([sampler]),
            stopping_criteria=StoppingCriteriaList(criteria),
        )
        new = sequences[:, ids.shape[1] :].cpu()
        logprobs = torch.stack(sampler.logprobs, dim=1).cpu()
        ends = torch.isin(new, torch.tensor(self._reader.ends)).int()
        # After the end there is padding.
        lengths = torch.where(ends.any(1), ends.argmax(1) + 1, new.shape[1]).tolist()
        rows = [row[:length] for row, length in zip(new.tolist(), lengths, strict=True)]
        texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
        completions = [
            self._reader.completion(row, text, float(logprobs[place, : len(row)].mean()), sampling)
            for place, (row, text) in enumerate(zip(rows, texts, strict=True))
        ]
        for place, prompt in enumerate(prompts):
            completions[place * n] = replace(completions[place * n], prompt_tokens=len(prompt))
        return [completions[start : start + n] for start in range(0, len(completions), n)]

    def _prompt_cache(self, ids: torch.Tensor, mask: torch.Tensor, n: int) -> DynamicCache | None:
        """Keys and values of all but the last token of the prompts, computed once and repeated for n candidates.

        None where that gains nothing, or where a model caches something else than keys and values.
        """
        if n == 1 or ids.shape[1] < 2 or not self._model._supports_default_dynamic_cache():
            return None
        cache = DynamicCache(config=self._model.config)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        self._model(
            input_ids=ids[:, :-1], attention_mask=mask[:, :-1], position_ids=positions[:, :-1], past_key_values=cache,
            use_cache=True, logits_to_keep=1,
        )  # fmt: skip
        cache.batch_repeat_interleave(n)
        return cache


class _Sampler(LogitsProcessor):
    """Draws each row's next token with that row's own random number, by inverting the cumulative distribution.

    It leaves only the drawn token possible, so that greedy search takes it, and keeps the model's own log-probability of it,
    before temperature and top-p.
    """

    def __init__(self, uniform: torch.Tensor, sampling: Sampling) -> None:
        """``uniform`` has a row per candidate and a column per token, in [0, 1)."""
        self._uniform = uniform
        top_p = [TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else []
        self._warp = LogitsProcessorList([TemperatureLogitsWarper(float(sampling.temperature)), *top_p])
        self.logprobs: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.float()
        logprobs = scores.log_softmax(-1)
        # In double precision: rounding errors of a sum over a large vocabulary would move the borders between tokens.
        cumulative = self._warp(input_ids, scores).softmax(-1, dtype=torch.float64).cumsum(-1)
        draw = self._uniform[:, len(self.logprobs), None] * cumulative[:, -1:]
        token = torch.searchsorted(cumulative, draw, right=True).clamp(max=scores.shape[-1] - 1)
        self.logprobs.append(logprobs.gather(-1, token).squeeze(-1))
        return torch.full_like(scores, -torch.inf).scatter(-1, token, 0.0)
