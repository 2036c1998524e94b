"""transformers: any causal language model, on a CPU or a GPU.

Every candidate has random numbers of its own, drawn before anything is written: its text does not depend on what else is
in its batch, so that a batch may be as large as memory admits, and smaller where it does not.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
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
from flywheel.engines.contract import Sampling, context_length, cut_at_stop, end_tokens, fitting, token_ids, too_long
from flywheel.engines.machine import device
from flywheel.errors import ConfigError, EngineError, ModelError
from flywheel.records import Completion, FinishReason


class TransformersEngine:
    """Runs any model that AutoModelForCausalLM loads."""

    name = "transformers"

    def __init__(self, model: Path, config: EngineConfig) -> None:
        self._device = device(config)
        if config.compute_type == "int8":
            raise ConfigError("engine.compute_type int8 is CTranslate2's, which does not run here; set float32 or bfloat16")
        self._tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left", trust_remote_code=config.trust_remote_code)
        if self._tokenizer.eos_token is None:
            raise ModelError(f"the tokenizer of {model} has no eos_token, so no text would ever end; add one")
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model = AutoModelForCausalLM.from_pretrained(
            model, dtype=getattr(torch, config.compute_type), use_safetensors=True, trust_remote_code=config.trust_remote_code
        )
        self._model.to(self._device).eval()
        self._context = context_length(model)
        self._ends = end_tokens(model, self._tokenizer)
        self._batch_tokens = config.batch_tokens

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        read = token_ids(self._tokenizer, prompts)
        written = [too_long(n) for _ in prompts]
        fits = fitting(read, sampling, self._context)
        fits.sort(key=lambda place: len(read[place]), reverse=True)
        while fits:
            # The longest first: where memory is short, the first batch of all says so.
            size = max(1, self._batch_tokens // ((len(read[fits[0]]) + sampling.max_tokens) * n))
            batch, fits = fits[:size], fits[size:]
            seeds = [derive(seed, place) for place in batch]
            groups = self._write_what_fits([read[place] for place in batch], seeds, n, sampling)
            for place, group in zip(batch, groups, strict=True):
                written[place] = group
        return written

    def close(self) -> None:
        """Give the weights' memory back."""
        del self._model
        gc.collect()
        if self._device != "cpu":
            torch.cuda.empty_cache()

    def _write_what_fits(
        self, prompts: list[list[int]], seeds: list[int], n: int, sampling: Sampling
    ) -> list[list[Completion]]:
        """Write a batch; where memory runs out, its halves, and from then on no batch as large."""
        try:
            return self._write(prompts, seeds, n, sampling)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not short_of_memory(error):
                raise
            if len(prompts) == 1:
                raise EngineError(
                    f"{n} candidates of {len(prompts[0])} + {sampling.max_tokens} tokens do not fit into the memory of "
                    f"{self._device}; lower sampling.n or sampling.max_tokens, or set engine.compute_type to bfloat16"
                ) from None
        gc.collect()
        if self._device != "cpu":
            torch.cuda.empty_cache()
        half = len(prompts) // 2
        self._batch_tokens = max(1, min(self._batch_tokens, half * n * (len(prompts[0]) + sampling.max_tokens)))
        return [
            *self._write_what_fits(prompts[:half], seeds[:half], n, sampling),
            *self._write_what_fits(prompts[half:], seeds[half:], n, sampling),
        ]

    @torch.inference_mode()
    def _write(self, prompts: list[list[int]], seeds: list[int], n: int, sampling: Sampling) -> list[list[Completion]]:
        batch = self._tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(self._device)
        ids, mask = (batch[name].repeat_interleave(n, dim=0) for name in ("input_ids", "attention_mask"))
        # One random number a token, in the order of the candidates, whatever batch they are in.
        uniform = np.concatenate([np.random.default_rng(seed).random((n, sampling.max_tokens)) for seed in seeds])
        drawing = _Drawing(torch.from_numpy(uniform).to(self._device), sampling)
        criteria = [StopStringCriteria(self._tokenizer, list(sampling.stop))] if sampling.stop else []
        sequences = self._model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=self._read_once(batch["input_ids"], batch["attention_mask"], n),
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=sampling.max_tokens,
                eos_token_id=self._ends,
                pad_token_id=self._tokenizer.pad_token_id,
            ),
            logits_processor=LogitsProcessorList([drawing]),
            stopping_criteria=StoppingCriteriaList(criteria),
        )
        new = sequences[:, ids.shape[1] :].cpu()
        logprobs = torch.stack(drawing.logprobs, dim=1).cpu()
        ends = torch.isin(new, torch.tensor(self._ends)).int()
        # Behind the end there is padding: nothing of it counts.
        lengths = torch.where(ends.any(1), ends.argmax(1) + 1, new.shape[1]).tolist()
        written = [row[:length] for row, length in zip(new.tolist(), lengths, strict=True)]
        texts = self._tokenizer.batch_decode(written, skip_special_tokens=True)
        completions = []
        for place, (row, text) in enumerate(zip(written, texts, strict=True)):
            ended = FinishReason.STOP if row[-1] in self._ends else FinishReason.LENGTH
            text, reason = cut_at_stop(text, sampling.stop, ended)
            logprob = float(logprobs[place, : len(row)].mean())
            prompt_tokens = len(prompts[place // n]) if place % n == 0 else 0
            completions.append(
                Completion(text=text, tokens=len(row), finish_reason=reason, logprob=logprob, prompt_tokens=prompt_tokens)
            )
        return [completions[start : start + n] for start in range(0, len(completions), n)]

    def _read_once(self, ids: torch.Tensor, mask: torch.Tensor, n: int) -> DynamicCache | None:
        """What the model remembers of all but the last token of the prompts, computed once and repeated for n candidates.

        None where there is nothing to gain, or where a model keeps something else than keys and values.
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


class _Drawing(LogitsProcessor):
    """Draws each row's next token with that row's own random number, by inverting the cumulative distribution.

    It leaves only the drawn token possible, so that a greedy search takes it, and keeps its log-probability as the model
    gave it: before temperature and top-p.
    """

    def __init__(self, uniform: torch.Tensor, sampling: Sampling) -> None:
        """``uniform`` has a row for each candidate and a column for each token, in [0, 1)."""
        self._uniform = uniform
        self._temperature = TemperatureLogitsWarper(float(sampling.temperature))
        self._top_p = TopPLogitsWarper(sampling.top_p) if sampling.top_p < 1 else None
        self.logprobs: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.float()
        logprobs = scores.log_softmax(-1)
        wanted = self._temperature(input_ids, scores)
        if self._top_p is not None:
            wanted = self._top_p(input_ids, wanted)
        # In double precision: rounding of a sum over a large vocabulary would move the borders between tokens.
        cumulative = wanted.softmax(-1, dtype=torch.float64).cumsum(-1)
        draw = self._uniform[:, len(self.logprobs), None] * cumulative[:, -1:]
        token = torch.searchsorted(cumulative, draw, right=True).clamp(max=scores.shape[-1] - 1)
        self.logprobs.append(logprobs.gather(-1, token).squeeze(-1))
        return torch.full_like(scores, -torch.inf).scatter(-1, token, 0.0)
