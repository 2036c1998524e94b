"""A reward model at work: answers in, scores out.

Outputs for one task share its prompt, and a causal model reads from left to right: what it makes of the
prompt is computed once for all of them. Everything else is sorted by length and batched by tokens.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from flywheel.config import Config
from flywheel.core.assets import asset
from flywheel.core.faults import short_of_memory
from flywheel.core.model_folders import check_model, settings_of
from flywheel.errors import EngineError, ModelError
from flywheel.instructions.prompts import Prompts
from flywheel.records import Task
from flywheel.reward.text import Answer, answer_texts, end_mark, shared_beginning, token_ids

SCALE = "scale.json"
"""File in a reward model's folder: mean and standard deviation of its raw scores over the reference set."""
WORTH_SHARING = 8
"""Prompts shorter than this many tokens are read anew for each output."""
ACTIVATIONS_BYTES = 3 << 20
"""On a CPU the widest layer's outputs of a batch stay in this much memory, which is what caches hold (measured: GPT-2's 8
layers score 61 texts/s with 256 tokens a batch and 34 with 16,384, nano 4,190 with 2,048 and 2,990 with 16,384)."""
GPU_TOKENS = 16384
Item = TypeVar("Item")
TOLERANCE = 1e-4
"""What padding, batching and sharing may change of a raw score."""


class RewardModel:
    """Scores answers in standard deviations over its reference set, in float32, padded on the right.

    ``folder`` holds a sequence classification model with one label, as `flywheel reward build` leaves it. Raises
    ModelError for anything else. ``most_labels`` 2 admits classifiers of bad and good too: the raw score is then how much
    more the second label gets than the first, in log-odds.
    """

    def __init__(
        self,
        folder: Path | str,
        prompts: Prompts | None = None,
        *,
        max_length: int = 1024,
        batch_tokens: int = 0,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        share_prompts: bool = True,
        most_labels: int = 1,
    ) -> None:
        folder = Path(folder)
        check_model(folder)
        check_head(folder, most_labels=most_labels)
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self.saved_padding_side = self.tokenizer.padding_side
        self.tokenizer.padding_side = "right"
        self.model: PreTrainedModel
        self.model, report = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True, trust_remote_code=False
        )
        _refuse_made_up(folder, self.model, report)
        self.model.to(device).eval()
        self.max_length = min(max_length, _positions(self.model))
        self._prompts = prompts or Prompts(asset("prompts"))
        self._batch_tokens, self._device = batch_tokens or _fastest_batch(self.model, device), device
        self._share_prompts = share_prompts and _reads_left_to_right(self.model, self.max_length)
        self._mean, self._std = _scale(folder)

    def score(self, answers: Sequence[Answer]) -> list[float]:
        """One score per answer, in order; higher is better. Outputs of one task are cheapest beside each other."""
        texts = answer_texts(self._prompts, answers, end_mark(self.tokenizer))
        return self._standardised(self._each_once(texts, [answer.task for answer in answers]))

    def score_texts(self, texts: Sequence[str]) -> list[float]:
        """One score per text, taken as it is. Texts over the maximum length lose their beginning."""
        return self._standardised(self._each_once(texts, [None] * len(texts)))

    def _standardised(self, raw: Sequence[float]) -> list[float]:
        return [(score - self._mean) / self._std for score in raw]

    def _each_once(self, texts: Sequence[str], tasks: Sequence[Task | None]) -> list[float]:
        """Raw scores; a text that several candidates share is read once, and scores the same for all of them."""
        asked = dict(zip(texts, tasks, strict=True))
        scores = dict(zip(asked, self._raw(list(asked), list(asked.values())), strict=True))
        return [scores[text] for text in texts]

    @torch.inference_mode()
    def _raw(self, texts: Sequence[str], tasks: Sequence[Task | None]) -> list[float]:
        if not texts:
            return []
        ids = token_ids(self.tokenizer, texts, max_length=self.max_length)
        groups, alone = _group(ids, tasks) if self._share_prompts else ([], list(range(len(ids))))
        scores = [0.0] * len(ids)
        for places in _batches([len(ids[place]) for place in alone], self._batch_tokens):
            rows = [alone[place] for place in places]
            for row, score in zip(rows, _halved(self._forward, [ids[row] for row in rows]), strict=True):
                scores[row] = score
        for batch in _batches([group.prompt for group in groups], self._batch_tokens, [group.tokens for group in groups]):
            together = [groups[place] for place in batch]
            rows = [row for group in together for row in group.rows]
            for row, score in zip(rows, _halved(partial(self._forward_shared, ids), together), strict=True):
                scores[row] = score
        if not all(math.isfinite(score) for score in scores):
            raise ModelError("the reward model gives a score that is no number; its weights are broken, build it anew")
        return scores

    def _forward(self, ids: Sequence[Sequence[int]]) -> list[float]:
        """Raw scores of some texts, in one batch."""
        padded, mask = self._padded(ids)
        return _raw_scores(self.model(input_ids=padded, attention_mask=mask).logits)

    def _forward_shared(self, ids: Sequence[Sequence[int]], groups: Sequence[_Group]) -> list[float]:
        """Raw scores of the groups' texts: the prompts once, then what follows each, with the prompts' keys and values."""
        prompts, prompt_mask = self._padded([ids[group.rows[0]][: group.prompt] for group in groups])
        cache = self.model.base_model(input_ids=prompts, attention_mask=prompt_mask, use_cache=True).past_key_values
        of_row = torch.tensor([place for place, group in enumerate(groups) for _ in group.rows], device=self._device)
        cache.batch_select_indices(of_row)
        rest, rest_mask = self._padded([ids[row][group.prompt :] for group in groups for row in group.rows])
        lengths = torch.tensor([group.prompt for group in groups], device=self._device)[of_row]
        hidden = self.model.base_model(
            input_ids=rest,
            attention_mask=torch.cat([prompt_mask[of_row], rest_mask], dim=1),
            position_ids=lengths[:, None] + torch.arange(rest.shape[1], device=self._device),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        last = hidden[torch.arange(len(rest), device=self._device), rest_mask.sum(dim=1) - 1]
        return _raw_scores(self.model.score(last))

    def _padded(self, ids: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids padded on the right, and the mask of what is no padding."""
        rows = [torch.tensor(row) for row in ids]
        padded = pad_sequence(rows, batch_first=True, padding_value=int(self.tokenizer.pad_token_id))
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(padded.shape[1]) < lengths[:, None]).long()
        return padded.to(self._device), mask.to(self._device)


def load_scorer(folder: Path, config: Config) -> RewardModel:
    """A reward model or member, ready to score."""
    return RewardModel(
        folder,
        Prompts(config.path(config.prompts)),
        max_length=config.reward.max_length,
        batch_tokens=config.reward.batch_tokens,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )


def _halved(forward: Callable[[Sequence[Item]], list[float]], items: Sequence[Item]) -> list[float]:
    """The raw scores of a batch; where memory is short, those of its halves, which `TOLERANCE` covers."""
    try:
        return forward(items)
    except (MemoryError, RuntimeError) as error:
        if not short_of_memory(error):
            raise
        if len(items) == 1:
            raise EngineError(
                "memory is too short to score one task; close other programs, or lower sampling.n or reward.max_length"
            ) from None
    half = len(items) // 2
    return [*_halved(forward, items[:half]), *_halved(forward, items[half:])]


def _raw_scores(logits: torch.Tensor) -> list[float]:
    """A number a row: the one label's, or of two the second's less the first's."""
    return [float(score) for score in (logits[:, -1] - (logits[:, 0] if logits.shape[1] == 2 else 0)).float().tolist()]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Texts that begin alike."""

    rows: tuple[int, ...]
    prompt: int
    """How many tokens they share."""
    tokens: int
    """What the group costs in a batch, its own padding included."""


def _group(ids: Sequence[Sequence[int]], tasks: Sequence[Task | None]) -> tuple[list[_Group], list[int]]:
    """Groups of two and more texts of one task, by the tokens they have in common, and the places of all others."""
    of_task: dict[Task | None, list[int]] = {}
    for place, task in enumerate(tasks):
        of_task.setdefault(task, []).append(place)
    groups, alone = [], of_task.pop(None, [])
    for rows in of_task.values():
        # The last token of each stays out of the prompt: it is where the score is read.
        shared = min(shared_beginning([ids[row] for row in rows]), min(len(ids[row]) for row in rows) - 1)
        if len(rows) < 2 or shared < WORTH_SHARING:
            alone += rows
            continue
        longest = max(len(ids[row]) for row in rows) - shared
        groups.append(_Group(rows=tuple(rows), prompt=shared, tokens=shared + len(rows) * longest))
    return groups, alone


def _batches(lengths: Sequence[int], budget: int, costs: Sequence[int] | None = None) -> Iterator[list[int]]:
    """Places sorted by length, in groups within the budget of tokens, padding included."""
    group: list[int] = []
    dearest = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        cost = costs[place] if costs else lengths[place]
        if group and max(dearest, cost) * (len(group) + 1) > budget:
            yield group
            group, dearest = [], 0
        group.append(place)
        dearest = max(dearest, cost)
    if group:
        yield group


def check_head(folder: Path, *, most_labels: int = 1) -> None:
    """Raise ModelError unless the folder's configuration is that of a model with a head of one label, or of so many."""
    config = settings_of(folder)
    architecture = (config.architectures or ["model without an architecture"])[0]
    if not architecture.endswith("ForSequenceClassification"):
        raise ModelError(
            f"{folder} is a {architecture}, not a reward model: it has no score head; "
            "make one with `flywheel reward slice` and train it"
        )
    if config.num_labels > most_labels:
        wanted = "a reward model has one" if most_labels == 1 else "a judge has one, or two: bad and good"
        raise ModelError(
            f"{folder} has a head of {config.num_labels} labels, {wanted}; train it with one label and binary cross-entropy"
        )


def _refuse_made_up(folder: Path, model: PreTrainedModel, report: Mapping[str, Any]) -> None:
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"{folder} lacks {missing[0]}, which would be made up anew at every load; it was not saved as a reward model, "
            "build it with `flywheel reward build`"
        )
    if model.config.pad_token_id is None:
        raise ModelError(f"{folder} has no pad token, so scores would change with the batch; give it one of its own")


def _positions(model: PreTrainedModel) -> int:
    """How many tokens the model can read."""
    positions = getattr(model.config, "max_position_embeddings", None)
    # RoBERTa and its kin number positions from after the pad token.
    offset = int(model.config.pad_token_id) + 1 if model.config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    return int(positions) - offset if positions else 1 << 30


def _reads_left_to_right(model: PreTrainedModel, max_length: int) -> bool:
    """Whether what the model makes of a prompt does not depend on what follows, and can be kept."""
    window = getattr(model.config, "sliding_window", None)
    supports = hasattr(model, "score") and not hasattr(model, "classifier")
    return supports and bool(getattr(model, "_supports_sdpa", False)) and (window is None or window >= max_length)


def _fastest_batch(model: PreTrainedModel, device: str) -> int:
    """Tokens a batch."""
    if device != "cpu":
        return GPU_TOKENS
    weights = [one.weight for one in model.modules() if not isinstance(one, torch.nn.Embedding) and hasattr(one, "weight")]
    widest = int(max(max(weight.shape) for weight in weights if weight.dim() == 2))
    return max(128, ACTIVATIONS_BYTES // (4 * widest))


def _scale(folder: Path) -> tuple[float, float]:
    path = folder / SCALE
    if not path.exists():
        return 0.0, 1.0
    figures = json.loads(path.read_text(encoding="utf-8"))
    return figures["mean"], figures["std"]


def write_scale(folder: Path, prompts: Prompts, reference: Sequence[Answer], *, max_length: int, batch_tokens: int) -> None:
    """Measure a model's mean and standard deviation over a reference set and keep them in its folder.

    Bradley-Terry scores have no scale of their own; this gives members and merge a common one.
    """
    (folder / SCALE).unlink(missing_ok=True)
    raw = RewardModel(folder, prompts, max_length=max_length, batch_tokens=batch_tokens).score(reference)
    mean, std = statistics.fmean(raw), statistics.pstdev(raw)
    if not std > 0:
        raise ModelError(
            f"{folder} gives {len(raw)} texts the same score {mean}; its training failed, or its weights are broken"
        )
    (folder / SCALE).write_text(json.dumps({"mean": mean, "std": std, "texts": len(raw)}), encoding="utf-8")
