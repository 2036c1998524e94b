"""The whole configuration, section by section.

Paths are folders, files or hub ids; ``asset:`` in front of one means a file that ships with flywheel.
Relative paths start at ``base``, by default the folder of the YAML file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from flywheel.config.budget import BudgetConfig, PricesConfig
from flywheel.config.cluster import ClusterConfig
from flywheel.config.engine import EngineConfig
from flywheel.config.evaluation import EvaluationConfig
from flywheel.config.instructions import InstructionsConfig
from flywheel.config.reward import RewardConfig
from flywheel.config.section import OPERATIONAL, Invalid, Positive, Section, Seed
from flywheel.config.training import TrainingConfig
from flywheel.core.assets import ASSET, asset
from flywheel.core.files import expanded


class SamplingConfig(Section):
    """How candidates are sampled for a task."""

    n: int = Field(default=4, ge=1, le=4096)
    """Candidates per task."""
    temperature: float = Field(default=1.0, gt=0.0, le=100.0)
    """Sampling temperature of candidates."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Nucleus sampling of candidates."""
    max_tokens: Positive = 256
    """Token cap of a candidate."""


class Config(Section):
    """Everything a run is made from."""

    base: Path = Field(default=Path("."), json_schema_extra=OPERATIONAL)
    """Folder that relative paths start at."""
    seed: Seed = 0
    """Seed of every random choice in the rounds."""
    generator: str
    """Folder or hub id of a causal language model, or a model's name behind an endpoint."""
    prompts: str = "asset:prompts"
    """Folder of Jinja templates; missing ones are taken from flywheel's own."""
    prompt_style: Literal["completion", "chat"] = "completion"
    """``completion`` for base models; ``chat`` for models whose tokenizer has a chat template."""
    chat_arguments: dict[str, Any] = Field(default_factory=dict)
    """Arguments of a local model's chat template, such as ``enable_thinking: false``."""
    engine: EngineConfig = EngineConfig()
    """The engine that runs the generator."""
    instructions: InstructionsConfig = InstructionsConfig()
    """How new tasks are proposed."""
    sampling: SamplingConfig = SamplingConfig()
    """How candidates are sampled for a task."""
    reward: RewardConfig
    """The reward model's recipe."""
    training: TrainingConfig = TrainingConfig()
    """How the generator is fine-tuned on the winners."""
    evaluation: EvaluationConfig
    """How a generator is evaluated, and when a difference counts."""
    cluster: ClusterConfig | None = Field(default=None, json_schema_extra=OPERATIONAL)
    """The Ray cluster that generates and scores, if not this process."""
    budget: BudgetConfig = Field(default=BudgetConfig(), json_schema_extra=OPERATIONAL)
    """What one command may spend."""
    prices: PricesConfig = Field(default=PricesConfig(), json_schema_extra=OPERATIONAL)
    """What work costs, in any one currency."""

    @model_validator(mode="after")
    def _check_sections(self) -> Config:
        problems: list[tuple[str, str]] = []
        if self.training.paraphrases and not self.instructions.paraphrases.per_winner:
            problems.append(
                ("training.paraphrases needs paraphrases", "Set `instructions.paraphrases.per_winner` to 2 or more.")
            )
        if self.engine.name == "openai" and self.training.student is None:
            problems.append(
                (
                    "a generator behind an endpoint cannot be trained",
                    "Set `training.student` to a local model to train instead.",
                )
            )
        if self.budget.cost is not None and not any(self.prices.model_dump().values()):
            problems.append(("budget.cost needs a price", "Set `prices.hour` or `prices.million_tokens`."))
        if self.sampling.max_tokens >= self.training.max_length:
            problems.append(
                (
                    f"sampling.max_tokens = {self.sampling.max_tokens} must be below training.max_length = "
                    f"{self.training.max_length}",
                    "Raise `training.max_length`, or winners are too long to train on.",
                )
            )
        if problems:
            raise Invalid(*problems)
        return self

    def path(self, value: str) -> Path:
        """Where a path of this configuration is on disk; it need not exist."""
        return asset(value.removeprefix(ASSET)) if value.startswith(ASSET) else (self.base / expanded(value))

    def model(self, value: str) -> str:
        """A model's folder, or the hub id if there is no such folder."""
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
