"""A reward model at work: answers in, scores out."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from flywheel.errors import ModelError
from flywheel.instructions.text import Prompts
from flywheel.reward.text import Answer, answer_texts

SCALE = "scale.json"
"""File in a reward model's folder: mean and standard deviation of its raw scores over the reference set."""


class RewardModel:
    """Scores answers in standard deviations over its reference set, in float32, padded on the right."""

    def __init__(self, folder: Path, prompts: Prompts, *, max_length: int, batch_tokens: int, device: str = "cpu") -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right")
        self._model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        if self._model.config.num_labels != 1:
            raise ModelError(f"{folder} has {self._model.config.num_labels} labels; a reward model has one")
        self._model.to(device).eval()
        self._prompts, self._max_length, self._batch_tokens, self._device = prompts, max_length, batch_tokens, device
        scale = folder / SCALE
        self._mean, self._std = 0.0, 1.0
        if scale.exists():
            figures = json.loads(scale.read_text(encoding="utf-8"))
            self._mean, self._std = figures["mean"], figures["std"]

    def score(self, answers: Sequence[Answer]) -> list[float]:
        """One score per answer, in order; higher is better."""
        return self.score_texts(answer_texts(self._prompts, answers, str(self._tokenizer.eos_token)))

    @torch.inference_mode()
    def score_texts(self, texts: Sequence[str]) -> list[float]:
        """One score per text, taken as it is. Texts over the maximum length lose their beginning."""
        if not texts:
            return []
        ids = [row[-self._max_length :] for row in self._tokenizer(list(texts)).input_ids]
        scores = [0.0] * len(ids)
        for places in _batches([len(row) for row in ids], self._batch_tokens):
            rows = [torch.tensor(ids[place]) for place in places]
            batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self._tokenizer.pad_token_id)
            lengths = torch.tensor([len(row) for row in rows])
            mask = (torch.arange(batch.shape[1]) < lengths[:, None]).long()
            logits = self._model(input_ids=batch.to(self._device), attention_mask=mask.to(self._device)).logits[:, 0]
            for place, logit in zip(places, logits.tolist(), strict=True):
                scores[place] = (logit - self._mean) / self._std
        return scores


def _batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Places grouped by length, each group within the budget of tokens, padding included."""
    group: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        longest = lengths[group[0]] if group else lengths[place]
        if group and longest * (len(group) + 1) > budget:
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def write_scale(folder: Path, prompts: Prompts, reference: Sequence[Answer], *, max_length: int, batch_tokens: int) -> None:
    """Measure a model's mean and standard deviation over a reference set and keep them in its folder.

    Bradley-Terry scores have no scale of their own; this gives members and merge a common one.
    """
    raw = RewardModel(folder, prompts, max_length=max_length, batch_tokens=batch_tokens).score(reference)
    mean, std = statistics.fmean(raw), statistics.pstdev(raw)
    if not std > 0:
        raise ModelError(
            f"{folder} gives {len(raw)} texts the same score {mean}; its training failed, or its weights are broken"
        )
    (folder / SCALE).write_text(json.dumps({"mean": mean, "std": std, "texts": len(raw)}), encoding="utf-8")
