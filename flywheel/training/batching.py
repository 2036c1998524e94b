"""Batching of training texts: by length, or packed several to a row without attending to each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from torch.utils.data import Sampler
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

ROW = 2
"""Length of a row of packed texts, in longest texts: shorter rows are filled worse, longer ones cost more attention."""
WINDOW = 50
"""Batches that are sorted together: enough for batches of one length, few enough to keep the texts mixed."""


class Order(Sampler[int], TrainerCallback):
    """The order of the texts of an epoch, from the seed and the epoch; blank texts come last.

    As a callback it gets the epoch, which accelerate does not set where a training resumes in the middle of one.
    """

    def __init__(self, lengths: Sequence[int], *, blanks: int, batch: int, grouped: bool, seed: int) -> None:
        self._lengths, self._blanks, self._batch, self._grouped, self._seed = lengths, blanks, batch, grouped, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._lengths) + self._blanks

    def __iter__(self) -> Iterator[int]:
        # As accelerate shuffles for one process: the same texts in every step, whatever the number of processes.
        random = torch.Generator().manual_seed(self._seed + self.epoch)
        order = torch.randperm(len(self._lengths), generator=random).tolist()
        if self._grouped:
            order = self._by_length(order, random)
        yield from order
        yield from range(len(order), len(self))

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        self.epoch = int(state.epoch or 0)

    def _by_length(self, order: list[int], random: torch.Generator) -> list[int]:
        """Put texts of similar length into a batch."""
        batches = []
        for start in range(0, len(order), self._batch * WINDOW):
            near = sorted(order[start : start + self._batch * WINDOW], key=self._lengths.__getitem__)
            batches += [near[at : at + self._batch] for at in range(0, len(near), self._batch)]
        # The data loader cuts the order at every ``batch`` texts, so a short batch goes to the end.
        short = batches.pop() if len(order) % self._batch else []
        shuffled = [batches[place] for place in torch.randperm(len(batches), generator=random).tolist()]
        return [text for batch in [*shuffled, short] for text in batch]


def filled_up(texts: Dataset, blanks: int, pad_token_id: int) -> Dataset:
    """Texts as trl prepares them, and blank ones without a loss: every process needs some of the last batch."""
    columns = {"input_ids": [pad_token_id], "labels": [-100], "seq_lengths": [1]}
    blank = {name: value for name, value in columns.items() if name in texts.column_names}
    texts = texts.select_columns(list(blank))
    return concatenate_datasets([texts, Dataset.from_list([blank] * blanks, features=texts.features)]) if blanks else texts


def row_length(lengths: Sequence[int], *, texts: int, parts: int) -> tuple[int, int]:
    """The length of rows of packed texts and the rows in a part of a step, so that all parts hold ``texts`` on average."""
    mean = sum(lengths) / len(lengths)
    rows = max(1, round(texts * mean / (ROW * max(lengths) * parts)))
    return max(max(lengths), math.ceil(texts * mean / (rows * parts))), rows


class Rows:
    """Packs as a batch of padded rows, with each text's positions from 0 on and no attention mask.

    From such positions transformers' models make a mask that keeps a row's texts apart. trl would put all rows of a batch
    into one, which is right for flash attention; any other kind computes the whole square.
    """

    def __init__(self, pad_token_id: int) -> None:
        self._pad = DataCollatorForLanguageModeling(pad_token_id=pad_token_id, return_position_ids=True)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch: dict[str, torch.Tensor] = self._pad(rows)
        del batch["attention_mask"]
        # A text's first token does not follow from the text before it.
        batch["labels"][batch["position_ids"] == 0] = -100
        return batch


@torch.inference_mode()
def keeps_apart(model: PreTrainedModel) -> bool:
    """Whether a model keeps the texts of a row apart: its logits for the second text do not depend on the first."""
    training = model.training
    model.eval()
    positions = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3]])
    second = [6, 7, 8, 9]
    try:
        logits = [
            model(input_ids=torch.tensor([[*first, *second]]), position_ids=positions, use_cache=False).logits[:, 5:]
            for first in ([1, 2, 3, 4, 5], [5, 3, 1, 2, 4])
        ]
    except TypeError:  # it takes no positions
        return False
    finally:
        model.train(training)
    return torch.equal(*logits)
