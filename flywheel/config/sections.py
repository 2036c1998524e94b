"""What a configuration may say, section by section.

Fields that change speed but not results carry ``OPERATIONAL`` and stay out of a round's identity.
Paths are folders, files or hub ids; ``asset:`` in front of one means a file that travels with flywheel.
Relative paths start from ``base``, by default the folder of the YAML file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from flywheel.assets import ASSET, asset

OPERATIONAL: dict[str, Any] = {"operational": True}

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of the configuration: frozen, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class EngineConfig(Section):
    """What runs the generator."""

    name: Literal["auto", "ctranslate2", "transformers", "scripted"] = "auto"
    """``auto`` is CTranslate2 on a CPU and transformers on a GPU; ``scripted`` replays texts, for tests and benchmarks."""
    script: str | None = None
    """The texts that the scripted engine replays: jsonl with ``text``, and where they differ ``finish_reason`` and ``when``."""
    device: str = Field(default="auto", json_schema_extra=OPERATIONAL)
    compute_type: Literal["float32", "bfloat16", "float16", "int8"] = "float32"
    workers: int = Field(default=0, ge=0, json_schema_extra=OPERATIONAL)
    """Texts are written on this many cores at once; 0 means all of them. The texts stay the same."""
    chunk: Positive = 128
    """Prompts per committed chunk. Part of the identity: random numbers are drawn per chunk."""
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _script_goes_with_scripted(self) -> Self:
        if (self.name == "scripted") != (self.script is not None):
            raise ValueError("engine.script and engine.name scripted go together; set both or neither")
        return self


class FiltersConfig(Section):
    """What a proposed task is dropped for, beside a missing field, a repeat and a copy of a demo; null switches one off."""

    near_duplicate: float | None = Field(default=0.7, gt=0.0, lt=1.0)
    """ROUGE-L to a seed or to a task kept in this round or an earlier one, above which a task is dropped (Self-Instruct's)."""
    compare: Literal["instruction", "task"] = "instruction"
    """What similarity is measured on: the instruction, or, where one instruction serves many inputs, both together."""
    held_out_words: int | None = Field(default=13, ge=4)
    """So many words in a row of a held-out or protected task are an overlap (GPT-3's 13, arXiv 2005.14165, appendix C)."""
    held_out_similarity: float | None = Field(default=0.7, gt=0.0, lt=1.0)
    """ROUGE-L of instruction and input to a held-out or protected task above which they overlap."""
    protected: tuple[str, ...] = ()
    """Further files of tasks that must not leak into training: benchmarks the generator will be measured on."""
    max_words: int | None = Field(default=None, ge=1)
    """Words of the three fields together."""
    refusals: bool = True
    """Drop texts in which the model declines to write a task."""
    language: str | None = Field(default=None, pattern="^[a-z]{2,3}$")
    """Keep instructions in this language only: an ISO 639 code such as ``en``."""
    custom: tuple[str, ...] = ()
    """Functions of your own, ``module:function``: take a Task, return None to keep it or the reason to drop it."""


class ParaphrasesConfig(Section):
    """Other ways to say the instructions of winners (Unnatural Instructions, section 2.3)."""

    per_winner: int = Field(default=0, ge=0)
    """Alternatives to write for each winner; 0 writes none."""
    demos: str = "asset:data/paraphrases.jsonl"
    """Pairs of ``instruction`` and ``alternative``, of which two are shown."""
    temperature: float = Field(default=1.0, gt=0.0)
    top_p: float = Field(default=0.99, gt=0.0, le=1.0)
    max_tokens: Positive = 128
    max_reward_fall: float | None = Field(default=0.5, ge=0.0)
    """Drop an alternative under which the winning output's reward is lower by more than this: it asks for something else."""


class InstructionsConfig(Section):
    """How new tasks are proposed."""

    seeds: str = "asset:data/seeds.jsonl"
    tasks: Positive = 500
    """Tasks to keep in a round."""
    meta_prompt: Literal["enumerated", "minimal", "verbose"] = "enumerated"
    """How the demos are presented: numbered examples, nothing but the fields, or a full explanation first."""
    demos: Literal["sets", "pool", "evolving"] = "sets"
    """Three demos of one seed set; any three seeds; or seeds and past winners, which are chosen to be unlike each other."""
    evolving_share: Share = 1 / 3
    """Share of past winners among evolving demos."""
    best_of: Positive = 1
    """Tasks to write for each that is kept, from the same demos."""
    best_by: Literal["novelty", "reward"] = "novelty"
    """Which of them is kept: the least similar to all before it, or the one whose text the reward model likes best."""
    temperature: float = Field(default=1.0, gt=0.0)
    top_p: float = Field(default=0.99, gt=0.0, le=1.0)
    max_tokens: Positive = 256
    max_attempts: int = Field(default=20, ge=1, json_schema_extra=OPERATIONAL)
    """Proposing stops after this many attempts for each task asked for (times ``best_of``)."""
    max_total_tokens: int | None = Field(default=None, ge=1, json_schema_extra=OPERATIONAL)
    """Proposing stops after this many tokens a round."""
    filters: FiltersConfig = FiltersConfig()
    paraphrases: ParaphrasesConfig = ParaphrasesConfig()


class SamplingConfig(Section):
    """How a task is answered."""

    n: Positive = 4
    temperature: float = Field(default=1.0, gt=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    max_tokens: Positive = 256


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
    columns: dict[str, str] = {}
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
    args: dict[str, Any] = {}
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
    members: dict[str, MemberConfig] = Field(min_length=1)
    merge: MergeConfig = MergeConfig()
    search: SearchConfig = SearchConfig()
    epochs: float = Field(default=1.0, gt=0.0)
    learning_rate: float = Field(default=1e-6, gt=0.0)
    batch_size: Positive = 8
    max_length: Positive = 1024
    lora: LoraConfig | None = None
    """None trains all weights."""
    args: dict[str, Any] = {}
    """Any further argument of trl's RewardConfig, for all members."""
    seed: int = 0
    """Apart from the run's seed, so that runs with different seeds can share a reward model."""
    batch_tokens: int = Field(default=0, ge=0, json_schema_extra=OPERATIONAL)
    """Tokens scored at once; 0 takes as many as the machine is fastest with."""
    checkpoint_minutes: float = Field(default=5.0, gt=0.0, json_schema_extra=OPERATIONAL)
    """A member in training is saved this often; a killed build goes on from there."""

    @model_validator(mode="after")
    def _slerp_is_for_two(self) -> Self:
        if self.merge.method == "slerp" and not self.search.trials and len(self.members) != 2:
            raise ValueError(f"merge.method slerp is for two members, there are {len(self.members)}; take ties or linear")
        return self


class TrainingConfig(Section):
    """How the generator is fine-tuned on the winners."""

    start: Literal["previous", "base"] = "previous"
    """Train the previous round's generator on, or the base anew."""
    data: Literal["replace", "accumulate"] = "replace"
    """Train on this round's winners, or on those of all rounds so far."""
    proposal_share: Share = 0.2
    """Share of proposal-shaped texts among the training texts, so that the generator still can propose."""
    paraphrases: bool = False
    """Train on the winners' paraphrases too, with the output of the winner."""
    checkpoint_minutes: float = Field(default=10.0, gt=0.0, json_schema_extra=OPERATIONAL)
    """A killed training goes on from its last checkpoint."""
    epochs: float = Field(default=1.0, gt=0.0)
    learning_rate: float = Field(default=1e-5, gt=0.0)
    batch_size: Positive = 8
    max_length: Positive = 1024
    args: dict[str, Any] = {}
    """Any further argument of trl's SFTConfig."""


class EvaluationConfig(Section):
    """How a generator is measured, and when a difference counts."""

    tasks: str
    """The held-out tasks: a jsonl file, the same for every round."""
    samples: Positive = 4
    judge: str
    """``module:function``: takes (task, output) pairs, returns a number or None for each. It never selects."""
    margin: float = Field(default=0.02, gt=0.0)
    """Differences of the judge within ± this are *flat*: too small to care about."""
    rise: float = Field(default=0.05, gt=0.0)
    """*proxy-only* is said where the reward rose and a rise of the judge by this much is ruled out."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    resamples: Positive = 10_000


class BudgetConfig(Section):
    """What one call may spend. It stops between two chunks and keeps what it has; the same command goes on."""

    tokens: int | None = Field(default=None, ge=1)
    """Tokens generated."""
    minutes: float | None = Field(default=None, gt=0.0)
    cost: float | None = Field(default=None, gt=0.0)
    """In the currency of ``prices``."""


class PricesConfig(Section):
    """What work costs, in any one currency."""

    hour: float = Field(default=0.0, ge=0.0)
    """Of the machine."""
    million_tokens: float = Field(default=0.0, ge=0.0)
    """Of generated tokens."""


class Config(Section):
    """Everything a run is made from."""

    base: Path = Field(default=Path("."), json_schema_extra=OPERATIONAL)
    seed: int = 0
    generator: str
    prompts: str = "asset:prompts"
    """A folder of Jinja templates; what is not in it is taken from flywheel's own."""
    prompt_style: Literal["completion", "chat"] = "completion"
    """``completion`` for base models; ``chat`` for models whose tokenizer has a chat template."""
    engine: EngineConfig = EngineConfig()
    instructions: InstructionsConfig = InstructionsConfig()
    sampling: SamplingConfig = SamplingConfig()
    reward: RewardConfig
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig
    budget: BudgetConfig = Field(default=BudgetConfig(), json_schema_extra=OPERATIONAL)
    prices: PricesConfig = Field(default=PricesConfig(), json_schema_extra=OPERATIONAL)

    @model_validator(mode="after")
    def _paraphrases_are_written(self) -> Config:
        if self.training.paraphrases and not self.instructions.paraphrases.per_winner:
            raise ValueError("training.paraphrases needs some; set instructions.paraphrases.per_winner to 2 or more")
        return self

    @model_validator(mode="after")
    def _money_has_a_price(self) -> Config:
        if self.budget.cost is not None and not (self.prices.hour or self.prices.million_tokens):
            raise ValueError("budget.cost needs a price; set prices.hour or prices.million_tokens")
        return self

    @model_validator(mode="after")
    def _check_outputs_fit(self) -> Config:
        if self.sampling.max_tokens >= self.training.max_length:
            raise ValueError(
                f"sampling.max_tokens ({self.sampling.max_tokens}) must be below training.max_length "
                f"({self.training.max_length}), or winners would be cut in training"
            )
        return self

    def path(self, value: str) -> Path:
        """Where a path of this configuration lies on disk; it need not exist."""
        return asset(value.removeprefix(ASSET)) if value.startswith(ASSET) else (self.base / Path(value).expanduser())

    def model(self, value: str) -> str:
        """A model's folder, or the hub id where there is no such folder."""
        path = self.path(value)
        looks_like_hub_id = value.count("/") <= 1 and not value.startswith((ASSET, ".", "/", "~"))
        return value if looks_like_hub_id and not path.exists() else str(path)

    def identity(self) -> dict[str, Any]:
        """The fields that can change results, flat: ``{"sampling.n": 4, …}``."""
        return dict(_flatten(self, ""))


def _flatten(section: BaseModel, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, field in type(section).model_fields.items():
        if field.json_schema_extra == OPERATIONAL:
            continue
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, dict) and any(isinstance(item, BaseModel) for item in value.values()):
            for key, item in value.items():
                yield from _flatten(item, f"{prefix}{name}.{key}.")
        else:
            yield f"{prefix}{name}", value
