"""A reward model at work: prompts and outputs in, scores out.

Outputs for one task share its prompt, and a causal model reads from left to right: what it makes of the
prompt is computed once for all of them. Everything else is sorted by length and batched by tokens.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from flywheel.config import Config
from flywheel.core.assets import asset
from flywheel.core.faults import short_of_memory
from flywheel.errors import ConfigError, DataError, EngineError, ModelError
from flywheel.instructions.prompts import Prompts
from flywheel.records import Task
from flywheel.reward.answers import refuse_unreadable
from flywheel.reward.text import Answer, answer_texts, end_mark, shared_beginning, token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from flywheel.reward.network import Ids, Network

SCALE = "scale.json"
"""File in a reward model's folder: mean and standard deviation of its raw scores over the reference set."""
WORTH_SHARING = 8
"""Prompts of fewer tokens are read again for each output."""
TOLERANCE = 1e-4
"""By how much padding, batching and sharing may change a raw score."""
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RewardModel:
    """Scores outputs in standard deviations over the model's reference set; higher is better. `load` makes one."""

    network: Network
    prompts: Prompts
    """The templates that put a task into words."""
    mean: float
    """Of the raw scores over the reference set."""
    std: float
    max_length: int
    """Texts of more tokens lose their beginning."""
    batch_tokens: int
    shares_prompts: bool
    """Whether a prompt is read once for all of its outputs."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer; it pads on the right."""
        return self.network.tokenizer

    @classmethod
    def load(
        cls,
        folder: str | Path,
        prompts: Prompts | None = None,
        *,
        max_length: int | None = None,
        batch_tokens: int = 0,
        device: str | None = None,
        dtype: str = "float32",
        share_prompts: bool = True,
        most_labels: int = 1,
    ) -> RewardModel:
        """Load a reward model from its folder: one that flywheel has built, or any classifier with one label.

        ``prompts`` are the templates that put a task into words, by default flywheel's own. ``max_length`` is in tokens, by
        default (and at most) what the model can read; texts above it lose their beginning. ``batch_tokens`` 0 and ``device``
        None take what is fastest here. ``most_labels`` 2 also takes classifiers of bad and good; the raw score is then the
        log-odds of good. Raises ModelError for anything else.
        """
        from flywheel.reward.network import Network

        if max_length is not None and max_length < 1:
            raise ConfigError(f"max_length = {max_length} must be at least 1", "Pass a number of tokens, or omit max_length.")
        network = Network(Path(folder), device=device, dtype=dtype, most_labels=most_labels)
        longest = min(length for length in (max_length, network.positions(), 1 << 30) if length is not None)
        scale_file = Path(folder) / SCALE
        scale = json.loads(scale_file.read_text(encoding="utf-8")) if scale_file.exists() else {"mean": 0.0, "std": 1.0}
        return cls(
            network=network, prompts=prompts or Prompts(asset("prompts")), mean=scale["mean"], std=scale["std"],
            max_length=longest,
            batch_tokens=batch_tokens or network.fastest_batch(),
            shares_prompts=share_prompts and network.can_share_prompts(longest),
        )  # fmt: skip

    def score(self, prompts: Sequence[str | Task], outputs: Sequence[str]) -> list[float]:
        """One score per output, in order. A prompt is an instruction, or a Task; outputs of one prompt are best kept together.

        Raises DataError unless there are as many prompts as outputs.
        """
        if isinstance(prompts, str) or isinstance(outputs, str):
            raise DataError("prompts and outputs must be lists, got one text", "Put the text into a list.")
        if not all(isinstance(prompt, str | Task) for prompt in prompts) or not all(isinstance(text, str) for text in outputs):
            raise DataError("prompts must be texts or tasks, and outputs texts", "Convert other values, and leave out None.")
        if len(prompts) != len(outputs):
            raise DataError(f"got {len(prompts)} prompts and {len(outputs)} outputs", "Give one prompt per output.")
        tasks = [Task(instruction=prompt, input="None") if isinstance(prompt, str) else prompt for prompt in prompts]
        answers = [Answer(task=task, output=output) for task, output in zip(tasks, outputs, strict=True)]
        refuse_unreadable(answers)
        return self.score_answers(answers)

    def score_answers(self, answers: Sequence[Answer]) -> list[float]:
        """One score per answer, in order. Answers to one task are cheapest beside each other."""
        texts = answer_texts(self.prompts, answers, end_mark(self.tokenizer))
        return self._standardised(texts, [answer.task for answer in answers])

    def score_texts(self, texts: Sequence[str]) -> list[float]:
        """One score per text, read without a template or an end mark."""
        return self._standardised(texts, [None] * len(texts))

    def _standardised(self, texts: Sequence[str], tasks: Sequence[Task | None]) -> list[float]:
        """Scores; a text that occurs several times is read once, and scores the same everywhere."""
        if not texts:
            return []
        task_of = dict(zip(texts, tasks, strict=True))
        ids = token_ids(self.tokenizer, list(task_of), max_length=self.max_length)
        groups, alone = _group(ids, list(task_of.values())) if self.shares_prompts else ([], list(range(len(ids))))
        scores: dict[int, float] = {}
        for batch in _batches(alone, lambda row: len(ids[row]), lambda row: len(ids[row]), self.batch_tokens):
            scores |= zip(batch, _halved(lambda rows: self.network.score([ids[row] for row in rows]), batch), strict=True)
        for together in _batches(groups, lambda group: len(group.prompt), lambda group: group.tokens, self.batch_tokens):
            rows = [row for group in together for row in group.rows]
            scores |= zip(rows, _halved(self._score_groups, together), strict=True)
        if not all(map(math.isfinite, scores.values())):
            name = self.network.model.name_or_path.removesuffix(".tmp")
            hint = "Its weights are broken: use another model, or build it again with a lower learning rate."
            raise ModelError(f"{name} returned a NaN or infinite score", hint)
        row_of = {text: row for row, text in enumerate(task_of)}
        return [(scores[row_of[text]] - self.mean) / self.std for text in texts]

    def _score_groups(self, groups: Sequence[_Group]) -> list[float]:
        return self.network.score_shared([group.prompt for group in groups], [group.rests for group in groups])


def load_scorer(folder: Path, config: Config | None, *, device: str | None = None) -> RewardModel:
    """A reward model or member with the templates and limits of a configuration, or with the defaults."""
    if config is None:
        return RewardModel.load(folder, device=device)
    prompts, limits = Prompts(config.path(config.prompts)), config.reward
    return RewardModel.load(folder, prompts, max_length=limits.max_length, batch_tokens=limits.batch_tokens, device=device)


def _halved(score: Callable[[Sequence[Item]], list[float]], items: Sequence[Item]) -> list[float]:
    """The raw scores of a batch; where memory is short, those of its halves, which `TOLERANCE` covers."""
    try:
        return score(items)
    except (MemoryError, RuntimeError) as error:
        if not short_of_memory(error):
            raise
        if len(items) == 1:
            raise EngineError(
                "out of memory while scoring one task",
                "Close other programs, or lower `sampling.n` or `reward.max_length`; a started round then needs --restart.",
            ) from None
    half = len(items) // 2
    return [*_halved(score, items[:half]), *_halved(score, items[half:])]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Texts with the same beginning."""

    rows: Sequence[int]
    prompt: Ids
    """The tokens that they share."""
    rests: Sequence[Ids]

    @property
    def tokens(self) -> int:
        """What the group costs in a batch, its own padding included."""
        return len(self.prompt) + len(self.rests) * max(map(len, self.rests))


def _group(ids: Sequence[Ids], tasks: Sequence[Task | None]) -> tuple[list[_Group], list[int]]:
    """Groups of two and more texts of one task, by the tokens they have in common, and the places of all others."""
    rows_of: dict[Task | None, list[int]] = {}
    for row, task in enumerate(tasks):
        rows_of.setdefault(task, []).append(row)
    groups, alone = [], rows_of.pop(None, [])
    for rows in rows_of.values():
        # The last token of each stays out of the prompt: it is where the score is read.
        shared = min(shared_beginning([ids[row] for row in rows]), min(len(ids[row]) for row in rows) - 1)
        if len(rows) < 2 or shared < WORTH_SHARING:
            alone += rows
        else:
            groups.append(_Group(rows=rows, prompt=ids[rows[0]][:shared], rests=[ids[row][shared:] for row in rows]))
    return groups, alone


def _batches(
    items: Sequence[Item], length: Callable[[Item], int], cost: Callable[[Item], int], budget: int
) -> Iterator[list[Item]]:
    """Items from long to short, in batches within the budget of tokens, padding included."""
    batch: list[Item] = []
    highest = 0
    for item in sorted(items, key=length, reverse=True):
        if batch and max(highest, cost(item)) * (len(batch) + 1) > budget:
            yield batch
            batch, highest = [], 0
        batch.append(item)
        highest = max(highest, cost(item))
    if batch:
        yield batch


def write_scale(folder: Path, config: Config, reference: Sequence[Answer]) -> None:
    """Measure a model's mean and standard deviation over a reference set and keep them in its folder.

    Bradley-Terry scores have no scale of their own; this gives members and merge a common one.
    """
    (folder / SCALE).unlink(missing_ok=True)
    raw = load_scorer(folder, config, device="cpu").score_answers(reference)
    mean, std = statistics.fmean(raw), statistics.pstdev(raw)
    if not std > 0:
        raise ModelError(
            f"{folder.name.removesuffix('.tmp')} gives all {len(raw)} reference texts the same score, {mean}",
            "Its training failed: lower `reward.learning_rate`, or the member's own, and build it again.",
        )
    (folder / SCALE).write_text(json.dumps({"mean": mean, "std": std, "texts": len(raw)}), encoding="utf-8")
