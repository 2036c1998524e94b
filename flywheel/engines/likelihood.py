"""How likely a generator finds texts that it did not write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from flywheel.engines.contract import context_length

BATCH = 16


@torch.inference_mode()
def answer_losses(
    model: Path, rows: Sequence[tuple[str, str]], *, device: str = "cpu", trust_remote_code: bool = False
) -> list[tuple[float, int] | None]:
    """Of each (prompt, answer) the negative log-likelihood of the answer after the prompt, in nats, and its tokens.

    The end of the text counts as a token. None for a row that is longer than the model reads.
    """
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)
    network = AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32, use_safetensors=True, trust_remote_code=trust_remote_code
    )
    network.to(device).eval()
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    whole = [list(ids) + end for ids in tokenizer([prompt + answer for prompt, answer in rows]).input_ids]
    # What is read before the first token of the answer; an empty prompt still needs one token to predict from.
    begins = [max(1, len(ids)) for ids in tokenizer([prompt for prompt, _ in rows]).input_ids]
    longest = context_length(model)
    fitting = sorted((place for place, ids in enumerate(whole) if len(ids) <= longest), key=lambda place: len(whole[place]))
    found: list[tuple[float, int] | None] = [None] * len(rows)
    for start in range(0, len(fitting), BATCH):
        places = fitting[start : start + BATCH]
        length = max(len(whole[place]) for place in places)
        ids = torch.zeros(len(places), length, dtype=torch.long)
        mask = torch.zeros(len(places), length, dtype=torch.long)
        for row, place in enumerate(places):
            ids[row, : len(whole[place])] = torch.tensor(whole[place])
            mask[row, : len(whole[place])] = 1
        ids, mask = ids.to(device), mask.to(device)
        logprobs = network(input_ids=ids, attention_mask=mask).logits[:, :-1].float().log_softmax(dim=-1)
        of_token = logprobs.gather(-1, ids[:, 1:, None]).squeeze(-1)
        for row, place in enumerate(places):
            answer = of_token[row, begins[place] - 1 : len(whole[place]) - 1]
            found[place] = (-float(answer.sum()), len(answer))
    return found
