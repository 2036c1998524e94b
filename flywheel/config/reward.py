"""What a configuration may say of the reward model: its data, members, merge and search."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from flywheel.config.section import OPERATIONAL, Name, Positive, Section, Seed

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
"""What a column of preference data can be, and the names it is looked for under where ``columns`` names none."""


class DataConfig(Section):
    """A set of preferences: where it lies and how its columns are read."""

    kind: Literal["thumbs", "pairs", "rankings", "ratings"]
    """``thumbs``: single outputs with a label. ``pairs``: a chosen and a rejected output, or two and which is preferred.
    ``rankings``: outputs, best first. ``ratings``: outputs with numbers. Rankings and ratings become pairs."""
    data: str
    """A file (jsonl, json, csv, parquet; also .gz), a folder of such, or a hub id (``owner/name``, ``owner/name/folder``)."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Which column is what: ``{text: input_text, label: labels}``; ``group`` is a column whose rows share a split."""
    threshold: float | None = Field(default=None, allow_inf_nan=False)
    """Thumbs: labels of at least this are likes. None takes only 0 and 1."""
    liked: tuple[str, ...] = ()
    """Thumbs: labels that are likes, where labels are words; all others are dislikes."""
    margin: float = Field(default=0.0, ge=0.0)
    """Ratings: two outputs are a pair where their ratings differ by more than this, else a tie."""

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        for name in columns:
            if name not in COLUMNS:
                raise ValueError(f"no column is called {name!r} here, columns are {', '.join(COLUMNS)}")
        return columns

    @model_validator(mode="after")
    def _one_kind_of_label(self) -> Self:
        if self.threshold is not None and self.liked:
            raise ValueError("threshold is for labels that are numbers and liked for words; keep one of them")
        return self


class MemberConfig(DataConfig):
    """One reward model that goes into the merge."""

    weight: float = Field(gt=0.0, allow_inf_nan=False)
    epochs: float | None = Field(default=None, gt=0.0)
    """None takes ``reward.epochs``."""
    learning_rate: float | None = Field(default=None, gt=0.0)
    """None takes ``reward.learning_rate``."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Any further argument of trl's RewardConfig (for thumbs of transformers' TrainingArguments), on top of ``reward.args``."""


class LoraConfig(Section):
    """Low-rank adapters instead of full weights; they are merged into the member when it is trained."""

    rank: Positive = 16
    alpha: Positive = 32
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    targets: str | tuple[str, ...] = "all-linear"
    """Names of the modules that get adapters; the head is always trained whole."""


MergeMethod = Literal["ties", "linear", "dare_ties", "della", "slerp"]


class MergeConfig(Section):
    """How members become one model; the words are mergekit's."""

    method: MergeMethod = "ties"
    """slerp is for two members, and takes its ``t`` from their weights."""
    density: float = Field(default=1.0, gt=0.0, le=1.0)
    """Share of each member's changes that is kept; not for linear and slerp."""
    epsilon: float = Field(default=0.05, gt=0.0, lt=0.5)
    """della: how far the chance to be kept varies around the density; density ± epsilon must lie inside (0, 1)."""
    normalize: bool = True
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """What the merged weights are saved in; scores are computed in float32."""

    @model_validator(mode="after")
    def _density_leaves_room(self) -> Self:
        if self.method == "della" and not (self.density - self.epsilon > 0 and self.density + self.epsilon < 1):
            raise ValueError(f"density {self.density} ± epsilon {self.epsilon} must lie inside (0, 1) for della")
        return self


class SearchConfig(Section):
    """A search for the merge on the validation splits, in place of the weights and the merge that the config names."""

    trials: int = Field(default=0, ge=0)
    """Merges to try; 0 takes the configured one."""
    methods: tuple[MergeMethod, ...] = ("ties", "linear", "dare_ties", "della")
    halvings: Positive = 2
    """Each halving tries the better third of the merges on three times the rows; the last sees all of them."""


class JointConfig(Section):
    """Training of the base on all sets together, before the members part ways from it.

    Members that start from a base that knows nothing of rewards end far apart, and their merge loses what they know.
    """

    epochs: float = Field(default=0.0, ge=0.0)
    """0 leaves the base as it was sliced: the reference recipe."""
    learning_rate: float | None = Field(default=None, gt=0.0)
    """None takes ``reward.learning_rate``."""


class RewardConfig(Section):
    """The reward model's recipe."""

    base: str
    layers: Positive
    """The base is cut to its first so many layers."""
    joint: JointConfig = JointConfig()
    members: dict[Name, MemberConfig] = Field(min_length=1)
    merge: MergeConfig = MergeConfig()
    search: SearchConfig = SearchConfig()
    epochs: float = Field(default=1.0, gt=0.0)
    learning_rate: float = Field(default=1e-6, gt=0.0)
    batch_size: Positive = 8
    max_length: Positive = 1024
    lora: LoraConfig | None = None
    """None trains all weights."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Any further argument of trl's RewardConfig, for all members."""
    seed: Seed = 0
    """Apart from the run's seed, so that runs with different seeds can share a reward model."""
    batch_tokens: int = Field(default=0, ge=0, json_schema_extra=OPERATIONAL)
    """Tokens scored at once; 0 takes as many as the machine is fastest with."""
    parallel: Positive = Field(default=1, json_schema_extra=OPERATIONAL)
    """Train so many members at once, each in a process of its own, with a GPU of its own where there are several."""
    checkpoint_minutes: float = Field(default=5.0, gt=0.0, json_schema_extra=OPERATIONAL)
    """A member in training is saved this often; a killed build goes on from there."""

    @model_validator(mode="after")
    def _slerp_is_for_two(self) -> Self:
        if self.merge.method == "slerp" and not self.search.trials and len(self.members) != 2:
            raise ValueError(f"merge.method slerp is for two members, there are {len(self.members)}; take ties or linear")
        return self
