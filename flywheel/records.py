"""Every record that more than one package uses: frozen, slotted, keyword-only data. It is long because it is the glossary."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

Row = TypeVar("Row", covariant=True)


class FinishReason(StrEnum):
    """Why an engine stopped writing."""

    STOP = "stop"
    """The model ended the text itself, or wrote a stop string."""
    LENGTH = "length"
    """The token limit cut the text. Such a candidate is kept in the store and never wins."""
    PROMPT_TOO_LONG = "prompt-too-long"
    """Nothing was written: prompt and token limit together are more than the model reads. Never wins either."""


class Policy(StrEnum):
    """A way of picking one candidate of a task. Only ``BEST`` is trained on; the others are controls."""

    BEST = "best"
    RANDOM = "random"
    MAX_LOGPROB = "max-logprob"
    LONGEST = "longest"
    FIRST = "first"


class Origin(StrEnum):
    """How a task came about."""

    PROPOSED = "proposed"
    """The generator wrote it after three demos."""
    PARAPHRASED = "paraphrased"
    """A winner's instruction said in another way, with the winner's input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is asked: an instruction, its input, and the constraints on the output."""

    instruction: str
    input: str
    constraints: str = "None"

    @property
    def task_id(self) -> str:
        """Digest of the three fields: the same task has the same id in every round and workspace."""
        fields = "\x1f".join((self.instruction, self.input, self.constraints))
        return hashlib.blake2b(fields.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedTask:
    """A task that people wrote, to show what is wanted."""

    task: Task
    set_name: str | None = None
    """Demos of one set are shown together."""
    kind: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutTask:
    """A task that generators are evaluated on and never see otherwise."""

    task: Task
    kind: str | None = None
    reference: str | None = None
    """An answer that is known to be good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reworded:
    """An instruction and another way to say it, as an example for paraphrasing."""

    instruction: str
    alternative: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One text that an engine wrote for one prompt."""

    text: str
    tokens: int
    finish_reason: FinishReason
    logprob: float | None = None
    """Mean log-probability per token, where the engine gives it."""
    prompt_tokens: int = 0
    """Tokens read for it; where a prompt was read once for several completions, the first of them carries them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One attempt at a new task: what was written, what it parsed to, and whether it was kept."""

    attempt: int
    raw: str
    demos: tuple[str, ...]
    """Ids of the tasks shown in the prompt, in order."""
    tokens: int
    task: Task | None
    """None where a field was missing."""
    reason: str | None = None
    """Why it was dropped; None if it was kept."""
    kind: str | None = None
    """What the instruction asks for, as its first verb or question word says."""
    nearest: str | None = None
    """Id of the most similar earlier task, where it was looked for and found."""
    similarity: float | None = None
    origin: Origin = Origin.PROPOSED
    parent: str | None = None
    """Id of the task that a paraphrase says in another way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One of the outputs sampled for a task: a kept task of a round, or a held-out task."""

    task_id: str
    candidate: int
    """Number of the candidate in its task, from 0."""
    output: str
    finish_reason: FinishReason
    tokens: int
    logprob: float | None
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A candidate with the reward model's score."""

    candidate: Candidate
    reward: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The candidate that one policy picked for a task."""

    task_id: str
    policy: Policy
    candidate: int
    margin: float | None
    """Reward of the pick minus the next best finished candidate's; None for a lone one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The score that a reward model or a judge gives a candidate."""

    task_id: str
    candidate: int
    model_id: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedChunk:
    """A chunk of a stage that could not be done, whoever tried; the round goes on without its rows."""

    stage: Stage
    chunk: int
    """Its place among the stage's chunks, from 0."""
    error: str


Judge = Callable[[Sequence[tuple[Task, str]]], list[float | None]]
"""Takes (task, output) pairs; returns a number for each, higher is better, or None where it cannot tell."""


class ModelKind(StrEnum):
    """What a model is for."""

    GENERATOR = "generator"
    BASE = "base"
    """The sliced base with the one shared head, from which every member and the merge are made."""
    MEMBER = "member"
    REWARD = "reward"
    JUDGE = "judge"


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeTrial:
    """A merge that a search tried: how it was made, and what it kept of each member on the validation splits."""

    trial: int
    method: str
    density: float
    normalize: bool
    weights: Mapping[str, float]
    retained: float
    """The worst member's accuracy on its own set that was kept: 1.0 is all of it."""
    accuracy: float
    """Average over the sets."""
    accuracies: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """The outcome of a search for a merge, on the validation splits."""

    merged: bool
    """Whether the best merge beats the best single member; otherwise that member is used alone."""
    best: MergeTrial
    single: str
    """The best single member."""
    single_accuracy: float
    trials: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sliced:
    """A base cut to its first layers."""

    layers_before: int
    layers: int
    parameters_before: int
    """Of the whole base with such a head."""
    parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a model from how it was made. What does not apply to its kind keeps the default."""

    rows: int = 0
    """Rows it was trained on."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Rows of its data that were left out, by reason."""
    loss: float | None = None
    seconds: float | None = None
    """Training time, loading and saving included."""
    accuracy: Mapping[str, float] = field(default_factory=dict)
    """Test accuracy on each preference set."""
    members: tuple[str, ...] = ()
    """Ids of the models it was merged from."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Merge weights, by member name."""
    merge: Mapping[str, str | float | bool] = field(default_factory=dict)
    """Settings of the merge, as under ``reward.merge``."""
    search: SearchResult | None = None
    sliced: Sliced | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model as it is recorded: where it lies, what it was made from, how it did."""

    kind: ModelKind
    name: str
    path: str
    digest: str
    parent: str | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    facts: Facts = Facts()
    pruned_at: datetime | None = None
    """When its folder was removed, to free the space."""

    @property
    def model_id(self) -> str:
        """The kind, the name and the start of the digest, such as ``member-pairs-1f0c9a2b77de``."""
        return f"{self.kind}-{self.name}-{self.digest[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One figure of a round, with its interval where it is an estimate."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One figure of one step of a training: loss, learning rate, accuracy and what else the trainer tells."""

    step: int
    name: str
    value: float


class Stage(StrEnum):
    """The stations of a round, in order."""

    PROPOSE = "propose"
    ANSWER = "answer"
    SCORE = "score"
    SELECT = "select"
    JUDGE = "judge"
    """The judges are asked about candidates: to measure what selecting is worth, never to select."""
    PARAPHRASE = "paraphrase"
    """Only where the config asks for paraphrases."""
    TRAIN = "train"
    EVALUATE = "evaluate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk(Generic[Row]):
    """Rows that are committed together, with the stage's progress in the same transaction."""

    rows: Sequence[Row]
    last: bool
    """Whether the stage is done with these rows."""
    tokens: int = 0
    """Tokens generated."""
    prompt_tokens: int = 0
    """Tokens read."""
    metrics: Sequence[Metric] = ()
    """Figures of the stage, committed with the rows and not counted among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalProgress:
    """How far the proposing of a round is."""

    attempts: int
    kept: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProgress:
    """Committed chunks of a stage of a round."""

    chunks: int
    finished: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A round as it is recorded."""

    round: str
    number: int
    parent: str | None
    status: str
    seed: int
    fingerprint: str
    identity: Mapping[str, Any]
    config: Mapping[str, Any]
    generator_in: str
    generator_out: str | None
    reward_model: str | None
    """None until the round needs one: tasks can be proposed without."""
    judge: str
    versions: Mapping[str, str]
    engine: Mapping[str, Any] = field(default_factory=dict)
    """What runs the generator, and why that: ``name``, ``why``."""
    policy: Policy = Policy.BEST
    """Whose picks the generator was trained on; any but ``best`` makes it a control, which is no turn of the wheel."""

    @property
    def tasks_of(self) -> str:
        """The round whose tasks and candidates this one trains on: a control has those of the round beside it."""
        return self.round if self.policy == Policy.BEST else f"r{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """A task with the output that won: what the generator is trained on."""

    task: Task
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedTask:
    """A kept task with the demos it was proposed from."""

    task: Task
    demos: tuple[str, ...]
