"""The likelihood that a generator gives to texts that it did not write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer

from flywheel.engines.texts import context_length

BATCH = 16


@torch.inference_mode()
def answer_losses(
    model: Path, rows: Sequence[tuple[str, str]], *, device: str = "cpu", trust_remote_code: bool = False
) -> list[tuple[float, int] | None]:
    """The negative log-likelihood in nats of each (prompt, answer)'s answer, and its tokens, the end of the text included.

    None for a row that is longer than the model's context.
    """
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)
    network = AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32, use_safetensors=True, trust_remote_code=trust_remote_code
    )
    network.to(device).eval()
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    whole = [list(ids) + end for ids in tokenizer([prompt + answer for prompt, answer in rows]).input_ids]
    # Tokens before the answer; with an empty prompt one of the answer's, for the model must read something.
    starts = [max(1, len(ids)) for ids in tokenizer([prompt for prompt, _ in rows]).input_ids]
    longest = context_length(model)
    fitting = sorted((place for place, ids in enumerate(whole) if len(ids) <= longest), key=lambda place: len(whole[place]))
    losses: list[tuple[float, int] | None] = [None] * len(rows)
    for start in range(0, len(fitting), BATCH):
        places = fitting[start : start + BATCH]
        rows_ids = [torch.tensor(whole[place]) for place in places]
        ids = pad_sequence(rows_ids, batch_first=True).to(device)
        mask = pad_sequence([torch.ones_like(row) for row in rows_ids], batch_first=True).to(device)
        logprobs = network(input_ids=ids, attention_mask=mask).logits[:, :-1].float().log_softmax(dim=-1)
        token_logprobs = logprobs.gather(-1, ids[:, 1:, None]).squeeze(-1)
        for row, place in enumerate(places):
            answer = token_logprobs[row, starts[place] - 1 : len(whole[place]) - 1]
            losses[place] = (-float(answer.sum()), len(answer))
    return losses
