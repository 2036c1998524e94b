"""The network of a reward model: token ids in, raw scores out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from flywheel.core.model_folders import check_model, settings_of
from flywheel.errors import ConfigError, ModelError, first_line

ACTIVATIONS_BYTES = 3 << 20
"""On a CPU the widest layer's outputs of a batch stay in this much memory, which is what caches hold (measured: GPT-2's 8
layers score 61 texts/s with 256 tokens a batch and 34 with 16,384, nano 4,190 with 2,048 and 2,990 with 16,384)."""
GPU_TOKENS = 16384
Ids = Sequence[int]


class Network:
    """A sequence classification model with its tokenizer, in eval mode; batches are padded on the right.

    Raises ModelError for a folder that is not a complete classifier of at most ``most_labels`` labels.
    """

    def __init__(self, folder: Path, *, device: str | None, dtype: str, most_labels: int) -> None:
        check_model(folder)
        check_head(folder, most_labels=most_labels)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            torch.empty(0, dtype=getattr(torch, dtype), device=self.device).requires_grad_()
        except (AttributeError, TypeError, RuntimeError, AssertionError) as error:
            message = f"cannot use dtype {dtype!r} on device {self.device!r}: {first_line(error)}"
            raise ConfigError(message, "Use float32, float16 or bfloat16 and a device of this machine, such as cpu.") from None
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self.saved_padding_side = self.tokenizer.padding_side
        self.tokenizer.padding_side = "right"
        self.model: PreTrainedModel
        self.model, report = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True, trust_remote_code=False
        )
        if missing := sorted(report["missing_keys"]):
            raise ModelError(
                f"{folder} has no weights for {missing[0]}, which would be random at every load",
                "Build the reward model with `flywheel reward build`.",
            )
        if self.model.config.pad_token_id is None:
            message = f"{folder} has no pad token, so scores would change with the batch"
            raise ModelError(message, "Add a pad token to its tokenizer, and set `pad_token_id` in its config.json.")
        self.model.to(self.device).eval()

    @torch.inference_mode()
    def score(self, rows: Sequence[Ids]) -> list[float]:
        """Raw scores of some texts, in one batch."""
        ids, mask = self._padded(rows)
        return _raw_scores(self.model(input_ids=ids, attention_mask=mask).logits)

    @torch.inference_mode()
    def score_shared(self, prompts: Sequence[Ids], rests: Sequence[Sequence[Ids]]) -> list[float]:
        """Raw scores of each prompt with each of its rests, in one batch: prompts are read once, their keys and values kept."""
        prompt_ids, prompt_mask = self._padded(prompts)
        cache = self.model.base_model(input_ids=prompt_ids, attention_mask=prompt_mask, use_cache=True).past_key_values
        prompt_of_row = self._tensor([place for place, group in enumerate(rests) for _ in group])
        cache.batch_select_indices(prompt_of_row)
        ids, mask = self._padded([rest for group in rests for rest in group])
        lengths = self._tensor([len(prompt) for prompt in prompts])[prompt_of_row]
        hidden = self.model.base_model(
            input_ids=ids,
            attention_mask=torch.cat([prompt_mask[prompt_of_row], mask], dim=1),
            position_ids=lengths[:, None] + torch.arange(ids.shape[1], device=self.device),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        last = hidden[torch.arange(len(ids), device=self.device), mask.sum(dim=1) - 1]
        return _raw_scores(self.model.score(last))

    def positions(self) -> int | None:
        """How many tokens the model can read; None where its configuration has no limit."""
        config = self.model.config
        positions = getattr(config, "max_position_embeddings", None)
        # RoBERTa and its kin number positions from after the pad token.
        offset = int(config.pad_token_id) + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
        return int(positions) - offset if positions else None

    def can_share_prompts(self, max_length: int) -> bool:
        """Whether a prompt's keys and values do not depend on what follows, and can be kept."""
        window = getattr(self.model.config, "sliding_window", None)
        causal = hasattr(self.model, "score") and not hasattr(self.model, "classifier")
        return causal and bool(getattr(self.model, "_supports_sdpa", False)) and (window is None or window >= max_length)

    def fastest_batch(self) -> int:
        """Tokens in a batch that this device is fastest with."""
        if self.device != "cpu":
            return GPU_TOKENS
        layers = (layer for layer in self.model.modules() if not isinstance(layer, torch.nn.Embedding))
        weights = [layer.weight for layer in layers if hasattr(layer, "weight")]
        widest = int(max(max(weight.shape) for weight in weights if weight.dim() == 2))
        return max(128, ACTIVATIONS_BYTES // (4 * widest))

    def _padded(self, rows: Sequence[Ids]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids padded on the right, and the mask of what is no padding."""
        ids = pad_sequence(
            [torch.tensor(row) for row in rows], batch_first=True, padding_value=int(self.tokenizer.pad_token_id)
        )
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        return ids.to(self.device), mask.to(self.device)

    def _tensor(self, values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, device=self.device)


def _raw_scores(logits: torch.Tensor) -> list[float]:
    """One number a row: the only label's, or of two labels the second's minus the first's."""
    return [float(score) for score in (logits[:, -1] - (logits[:, 0] if logits.shape[1] == 2 else 0)).float().tolist()]


def check_head(folder: Path, *, most_labels: int = 1) -> None:
    """Raise ModelError unless the folder's configuration is that of a classifier of at most ``most_labels`` labels."""
    config = settings_of(folder)
    architecture = (config.architectures or ["model without an architecture"])[0]
    if not architecture.endswith("ForSequenceClassification"):
        raise ModelError(
            f"{folder} is a {architecture}, not a sequence classifier",
            "Use a reward model, such as one created by `flywheel reward build`.",
        )
    if config.num_labels > most_labels:
        expected = "1" if most_labels == 1 else "1, or 2 (bad and good)"
        message = f"{folder} has {config.num_labels} labels, expected {expected}"
        raise ModelError(message, "Use a model with one label, or train it again with `num_labels=1`.")
