"""transformers: any causal language model, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    StopStringCriteria,
)

from flywheel.config import EngineConfig
from flywheel.engines.engine import Sampling, cut_at_stop, device
from flywheel.errors import ModelError
from flywheel.records import Completion, FinishReason
from flywheel.seeds import derive

BATCH = 32
"""Prompts that are written together. Part of the results: numbers are drawn for a batch at once."""


class TransformersEngine:
    """Runs any model that AutoModelForCausalLM loads."""

    name = "transformers"

    def __init__(self, model: Path, config: EngineConfig) -> None:
        self._device = device(config)
        dtype = "float32" if config.compute_type == "int8" else config.compute_type
        self._tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left", trust_remote_code=config.trust_remote_code)
        if self._tokenizer.eos_token is None:
            raise ModelError(f"the tokenizer of {model} has no eos_token, so no text would ever end; add one")
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model = AutoModelForCausalLM.from_pretrained(
            model, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=config.trust_remote_code
        )
        self._model.to(self._device).eval()

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        batches = [prompts[start : start + BATCH] for start in range(0, len(prompts), BATCH)]
        written = (self._write(batch, n=n, sampling=sampling, seed=derive(seed, index)) for index, batch in enumerate(batches))
        return [completions for batch in written for completions in batch]

    @torch.inference_mode()
    def _write(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        torch.manual_seed(seed)
        batch = self._tokenizer(list(prompts), return_tensors="pt", padding=True).to(self._device)
        criteria = [StopStringCriteria(self._tokenizer, list(sampling.stop))] if sampling.stop else []
        likelihood = _Likelihood()
        sequences = self._model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            do_sample=True,
            num_return_sequences=n,
            max_new_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=0,
            eos_token_id=self._tokenizer.eos_token_id,
            pad_token_id=self._tokenizer.pad_token_id,
            logits_processor=LogitsProcessorList([likelihood.before]),
            stopping_criteria=StoppingCriteriaList([likelihood.after, *criteria]),
        )
        ids = sequences[:, batch["input_ids"].shape[1] :].cpu()
        logprobs = torch.stack(likelihood.steps, dim=1).cpu()
        completions = [self._completion(row, logprob, sampling) for row, logprob in zip(ids, logprobs, strict=True)]
        return [completions[start : start + n] for start in range(0, len(completions), n)]

    def _completion(self, ids: torch.Tensor, logprobs: torch.Tensor, sampling: Sampling) -> Completion:
        ends = (ids == self._tokenizer.eos_token_id).nonzero()
        tokens = int(ends[0]) + 1 if len(ends) else len(ids)
        text = self._tokenizer.decode(ids[: tokens - 1] if len(ends) else ids, skip_special_tokens=True)
        text, reason = cut_at_stop(text, sampling.stop, FinishReason.STOP if len(ends) else FinishReason.LENGTH)
        return Completion(text=text, tokens=tokens, finish_reason=reason, logprob=float(logprobs[:tokens].mean()))


class _Likelihood:
    """Collects the log-probability of each drawn token, holding the logits of one step only.

    The processor sees a step's logits before temperature and top-p, the criterion the token drawn from them.
    """

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []
        current: list[torch.Tensor] = []
        steps = self.steps

        class Before(LogitsProcessor):
            def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
                current[:] = [scores.log_softmax(-1)]
                return scores

        class After(StoppingCriteria):
            def __call__(self, input_ids: torch.Tensor, scores: object, **kwargs: object) -> torch.Tensor:
                steps.append(current[0].gather(-1, input_ids[:, -1:]).squeeze(-1))
                return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

        self.before, self.after = Before(), After()
