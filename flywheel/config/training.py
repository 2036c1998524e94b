"""How models are trained: the reward model in the ``reward`` section, the generator in the ``training`` section."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from flywheel.config.section import OPERATIONAL, Name, Positive, Problem, Section, Seed, Share

COLUMNS: dict[str, tuple[str, ...]] = {
    "instruction": ("instruction", "prompt"),
    "input": ("input",),
    "constraints": ("constraints",),
    "output": ("output", "response", "completion"),
    "text": ("text", "input_text"),
    "label": ("label", "labels"),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "first": ("first", "output_1", "response1"),
    "second": ("second", "output_2", "response2"),
    "preferred": ("preferred", "preference", "label"),
    "outputs": ("outputs", "responses"),
    "ranks": ("ranks",),
    "ratings": ("ratings", "scores"),
    "rating": ("rating", "score"),
    "group": ("group",),
    "split": ("split",),
}
"""The meanings of columns of preference data, and the column names that are tried if ``columns`` names none."""


class LoraConfig(Section):
    """Low-rank adapters, merged into the model after training."""

    rank: Positive = 16
    """Rank of the adapters."""
    alpha: Positive = 32
    """LoRA alpha: adapters are scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout of the adapters' inputs."""
    targets: str | tuple[str, ...] = "all-linear"
    """Names of the modules that get adapters; a reward head is always trained in full."""


class DataConfig(Section):
    """Preference data: where it is and how its columns are read."""

    kind: Literal["thumbs", "pairs", "rankings", "ratings"]
    """``thumbs``: single outputs with a label. ``pairs``: a chosen and a rejected output, or two outputs and the preferred one.
    ``rankings``: outputs, best first. ``ratings``: outputs with numbers. Rankings and ratings become pairs."""
    data: str
    """A file (jsonl, json, csv, parquet; also .gz), a folder of files, or a hub id (``owner/name``, ``owner/name/folder``)."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Column names by meaning, such as ``{text: input_text, label: labels}``; rows of one ``group`` share a split."""
    threshold: float | None = None
    """thumbs: labels of at least this are likes; null accepts only 0 and 1."""
    liked: tuple[str, ...] = ()
    """thumbs: the labels that are likes, where labels are words; all others are dislikes."""
    margin: float = Field(default=0.0, ge=0.0)
    """ratings: two outputs become a pair if their ratings differ by more than this."""

    def problems(self) -> Iterator[Problem]:
        if unknown := ", ".join(self.columns.keys() - COLUMNS.keys()):
            yield f"columns has unknown keys: {unknown}", f"Valid keys: {', '.join(COLUMNS)}."
        if self.threshold is not None and self.liked:
            yield "threshold and liked cannot both be set", "Use `threshold` for numeric labels, and `liked` for text labels."


class MemberConfig(DataConfig):
    """One reward model that goes into the merge."""

    weight: float = Field(gt=0.0)
    """Weight in the merge."""
    epochs: float | None = Field(default=None, gt=0.0)
    """Passes over the member's data; null uses ``reward.epochs``."""
    learning_rate: float | None = Field(default=None, gt=0.0)
    """Peak learning rate of the member; null takes ``reward.learning_rate``."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of trl's ``RewardConfig`` (thumbs: transformers' ``TrainingArguments``), on top of ``reward.args``."""


MergeMethod = Literal["ties", "linear", "dare_ties", "della", "slerp"]


class MergeConfig(Section):
    """How members become one model, in mergekit's terms."""

    method: MergeMethod = "ties"
    """Merge method; ``slerp`` merges two members, and its ``t`` follows from their weights."""
    density: float = Field(default=1.0, gt=0.0, le=1.0)
    """Share of each member's weight changes to keep; linear and slerp ignore it."""
    epsilon: float = Field(default=0.05, gt=0.0, lt=0.5)
    """della: range of the keep probability around the density; density ± epsilon must lie within (0, 1)."""
    normalize: bool = True
    """Divide the members' weights by their sum."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Number type of the saved weights; scores are computed in float32."""

    def problems(self) -> Iterator[Problem]:
        if self.method == "della" and not (self.density - self.epsilon > 0 and self.density + self.epsilon < 1):
            message = f"density = {self.density} is out of range for method = 'della' with epsilon = {self.epsilon}"
            yield message, f"Set the density above {self.epsilon:g} and below {1 - self.epsilon:g} for della."


class SearchConfig(Section):
    """A search for the best merge on the validation splits, instead of the configured weights and merge."""

    trials: int = Field(default=0, ge=0)
    """Merges to try; 0 uses the configured one."""
    methods: tuple[MergeMethod, ...] = ("ties", "linear", "dare_ties", "della")
    """Merge methods to try."""


class JointConfig(Section):
    """Warm-up (joint) training of the base on all datasets, before members are trained from it.

    Members that start from a base without any reward training end far apart, and their merge loses what they learned.
    """

    epochs: float = Field(default=0.0, ge=0.0)
    """Passes over all datasets; 0 skips joint training, as the reference recipe does."""
    learning_rate: float | None = Field(default=None, gt=0.0)
    """Peak learning rate of joint training; null takes ``reward.learning_rate``."""


class RewardConfig(Section):
    """The reward model's recipe."""

    base: str
    """Folder or hub id of the model that members start from."""
    layers: Positive
    """Layers of the base to keep, from the first."""
    joint: JointConfig = JointConfig()
    members: dict[Name, MemberConfig] = Field(min_length=1)
    """Members by name."""
    merge: MergeConfig = MergeConfig()
    search: SearchConfig = SearchConfig()
    epochs: float = Field(default=1.0, gt=0.0)
    """Passes over each member's data."""
    learning_rate: float = Field(default=1e-6, gt=0.0)
    """Peak learning rate."""
    batch_size: Positive = 8
    """Rows per optimizer step."""
    max_length: Positive = 1024
    """Maximum tokens of a text; longer rows are dropped in training, and longer texts are scored without their beginning."""
    lora: LoraConfig | None = None
    """Train low-rank adapters; null trains all weights."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of trl's ``RewardConfig``, for all members."""
    seed: Seed = 0
    """Seed of the reward model, separate from the run's, so that runs with different seeds can share a reward model."""
    batch_tokens: int = Field(default=0, ge=0, json_schema_extra=OPERATIONAL)
    """Tokens to score at the same time; 0 selects what is fastest on this machine."""
    checkpoint_minutes: float = Field(default=5.0, gt=0.0, json_schema_extra=OPERATIONAL)
    """Minutes between checkpoints of a member; an interrupted build resumes from the last one."""

    def problems(self) -> Iterator[Problem]:
        if self.merge.method == "slerp" and not self.search.trials and len(self.members) != 2:
            hint = "Set `reward.merge.method` to ties or linear."
            yield f"merge.method = 'slerp' needs exactly two members, not {len(self.members)}", hint


class TrainingConfig(Section):
    """How the generator is fine-tuned on the winners."""

    student: str | None = None
    """Folder or hub id of a local model to train instead of the generator; a generator behind an endpoint needs one."""
    start: Literal["previous", "base"] = "previous"
    """Continue from the previous round's generator, or start from the base model."""
    data: Literal["replace", "accumulate"] = "replace"
    """Train on this round's winners, or on those of all rounds so far."""
    proposal_share: Share = 0.2
    """Share of proposals among the training texts, so that the generator stays able to propose."""
    paraphrases: bool = False
    """Train on the winners' paraphrases too, each with the winner's output."""
    checkpoint_minutes: float = Field(default=10.0, gt=0.0, json_schema_extra=OPERATIONAL)
    """Minutes between checkpoints; an interrupted training resumes from the last one."""
    epochs: float = Field(default=1.0, gt=0.0)
    """Passes over the training texts."""
    learning_rate: float = Field(default=1e-5, gt=0.0)
    """Peak learning rate."""
    batch_size: Positive = 8
    """Texts per optimizer step, over all processes."""
    max_length: Positive = 1024
    """Maximum tokens of a training text; longer texts are dropped and counted."""
    batching: Literal["plain", "grouped", "packed"] = "plain"
    """``plain``: random batches, padded to their longest text. ``grouped``: batches of similar length. ``packed``: several
    texts in a row that do not attend to each other; ``batch_size`` is then an average."""
    lora: LoraConfig | None = None
    """Train low-rank adapters and merge them into the generator; null trains all weights."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number type of the computation; trained weights stay float32, so that small steps are not lost, and are saved as such."""
    gradient_checkpointing: bool = Field(default=False, json_schema_extra=OPERATIONAL)
    """Recompute activations instead of storing them: less memory, more time, the same weights."""
    accumulate: Positive = 1
    """Gradient accumulation: parts that a step's texts are split into, for less memory and the same step."""
    processes: Positive = 1
    """Processes, one per GPU, that share a step's texts. Part of the fingerprint: the steps are equal up to rounding, but the
    last one of an epoch is padded with texts of the first, so that every process has some."""
    accelerate_config: str | None = None
    """Config file of ``accelerate launch``; it sets the number of processes if ``processes`` is 1."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of trl's ``SFTConfig``."""

    def problems(self) -> Iterator[Problem]:
        shares = self.processes * self.accumulate
        if self.batch_size % shares:
            hint = f"Set `training.batch_size` to {-(-self.batch_size // shares) * shares}, for example."
            yield f"batch_size = {self.batch_size} must be a multiple of processes x accumulate ({shares})", hint
