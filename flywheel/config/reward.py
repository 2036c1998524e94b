"""The reward model's data, members, merge and search: the ``reward`` section."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from flywheel.config.section import OPERATIONAL, Invalid, Name, Positive, Section, Seed

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


class DataConfig(Section):
    """Preference data: where it is and how its columns are read."""

    kind: Literal["thumbs", "pairs", "rankings", "ratings"]
    """``thumbs``: single outputs with a label. ``pairs``: a chosen and a rejected output, or two outputs and the preferred one.
    ``rankings``: outputs, best first. ``ratings``: outputs with numbers. Rankings and ratings become pairs."""
    data: str
    """A file (jsonl, json, csv, parquet; also .gz), a folder of files, or a hub id (``owner/name``, ``owner/name/folder``)."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Column names by meaning, such as ``{text: input_text, label: labels}``; rows of one ``group`` share a split."""
    threshold: float | None = Field(default=None, allow_inf_nan=False)
    """thumbs: labels of at least this are likes; null accepts only 0 and 1."""
    liked: tuple[str, ...] = ()
    """thumbs: the labels that are likes, where labels are words; all others are dislikes."""
    margin: float = Field(default=0.0, ge=0.0)
    """ratings: two outputs become a pair if their ratings differ by more than this."""

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        for name in columns:
            if name not in COLUMNS:
                raise ValueError(f"{name!r} is not a meaning of a column; they are {', '.join(COLUMNS)}")
        return columns

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        if self.threshold is not None and self.liked:
            raise Invalid(("`threshold` is for labels that are numbers, `liked` for words", "Remove one of them."))
        return self


class MemberConfig(DataConfig):
    """One reward model that goes into the merge."""

    weight: float = Field(gt=0.0, allow_inf_nan=False)
    """Weight in the merge."""
    epochs: float | None = Field(default=None, gt=0.0)
    """Passes over the member's data; null takes ``reward.epochs``."""
    learning_rate: float | None = Field(default=None, gt=0.0)
    """Peak learning rate of the member; null takes ``reward.learning_rate``."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of trl's ``RewardConfig`` (thumbs: transformers' ``TrainingArguments``), on top of ``reward.args``."""


class LoraConfig(Section):
    """Low-rank adapters, merged into the model after training."""

    rank: Positive = 16
    """Rank of the adapters."""
    alpha: Positive = 32
    """Scale of the adapters, over their rank."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout of the adapters' inputs."""
    targets: str | tuple[str, ...] = "all-linear"
    """Names of the modules that get adapters; a reward head is always trained in full."""


MergeMethod = Literal["ties", "linear", "dare_ties", "della", "slerp"]


class MergeConfig(Section):
    """How members become one model, in mergekit's terms."""

    method: MergeMethod = "ties"
    """Merge method; ``slerp`` takes two members, and its ``t`` from their weights."""
    density: float = Field(default=1.0, gt=0.0, le=1.0)
    """Share of each member's weight changes to keep; linear and slerp ignore it."""
    epsilon: float = Field(default=0.05, gt=0.0, lt=0.5)
    """della: range of the keep probability around the density; density ± epsilon must lie within (0, 1)."""
    normalize: bool = True
    """Divide the members' weights by their sum."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Number type of the saved weights; scores are computed in float32."""

    @model_validator(mode="after")
    def _check_density(self) -> Self:
        if self.method == "della" and not (self.density - self.epsilon > 0 and self.density + self.epsilon < 1):
            raise Invalid(
                (f"density {self.density} ± epsilon {self.epsilon} must lie within (0, 1) for della", "Lower `epsilon`.")
            )
        return self


class SearchConfig(Section):
    """A search for the best merge on the validation splits, instead of the configured weights and merge."""

    trials: int = Field(default=0, ge=0)
    """Merges to try; 0 takes the configured one."""
    methods: tuple[MergeMethod, ...] = ("ties", "linear", "dare_ties", "della")
    """Merge methods to try."""
    halvings: Positive = 2
    """Successive halvings: each tests the better third of the merges on three times the rows; the last one uses all rows."""


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
    """Warm-up (joint) training."""
    members: dict[Name, MemberConfig] = Field(min_length=1)
    """Members by name."""
    merge: MergeConfig = MergeConfig()
    """How members become one model."""
    search: SearchConfig = SearchConfig()
    """Search for the best merge."""
    epochs: float = Field(default=1.0, gt=0.0)
    """Passes over each member's data."""
    learning_rate: float = Field(default=1e-6, gt=0.0)
    """Peak learning rate."""
    batch_size: Positive = 8
    """Rows per optimizer step."""
    max_length: Positive = 1024
    """Tokens of a text; longer rows are dropped in training, and longer texts lose their beginning when scored."""
    lora: LoraConfig | None = None
    """Train low-rank adapters; null trains all weights."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of trl's ``RewardConfig``, for all members."""
    seed: Seed = 0
    """Seed of the reward model, apart from the run's, so that runs with different seeds can share a reward model."""
    batch_tokens: int = Field(default=0, ge=0, json_schema_extra=OPERATIONAL)
    """Tokens to score at the same time; 0 takes what is fastest on this machine."""
    parallel: Positive = Field(default=1, json_schema_extra=OPERATIONAL)
    """Members to train at the same time, each in its own process, and on its own GPU if there are several."""
    checkpoint_minutes: float = Field(default=5.0, gt=0.0, json_schema_extra=OPERATIONAL)
    """Minutes between checkpoints of a member; a killed build resumes from the last one."""

    @model_validator(mode="after")
    def _check_slerp(self) -> Self:
        if self.merge.method == "slerp" and not self.search.trials and len(self.members) != 2:
            raise Invalid(
                (f"merge.method = 'slerp' needs exactly two members, not {len(self.members)}", "Set it to ties or linear.")
            )
        return self
