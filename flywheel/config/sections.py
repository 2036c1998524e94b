"""What a configuration may say, section by section.

Paths are folders, files or hub ids; ``asset:`` in front of one means a file that travels with flywheel.
Relative paths start from ``base``, by default the folder of the YAML file.
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
from flywheel.config.section import OPERATIONAL, Positive, Section, Seed
from flywheel.config.training import TrainingConfig
from flywheel.core.assets import ASSET, asset
from flywheel.core.files import expanded


class SamplingConfig(Section):
    """How a task is answered."""

    n: int = Field(default=4, ge=1, le=4096)
    temperature: float = Field(default=1.0, gt=0.0, le=100.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    max_tokens: Positive = 256


class Config(Section):
    """Everything a run is made from."""

    base: Path = Field(default=Path("."), json_schema_extra=OPERATIONAL)
    seed: Seed = 0
    generator: str
    prompts: str = "asset:prompts"
    """A folder of Jinja templates; what is not in it is taken from flywheel's own."""
    prompt_style: Literal["completion", "chat"] = "completion"
    """``completion`` for base models; ``chat`` for models whose tokenizer has a chat template."""
    chat_arguments: dict[str, Any] = Field(default_factory=dict)
    """What a local model's chat template is told, such as ``enable_thinking: false``."""
    engine: EngineConfig = EngineConfig()
    instructions: InstructionsConfig = InstructionsConfig()
    sampling: SamplingConfig = SamplingConfig()
    reward: RewardConfig
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig
    cluster: ClusterConfig | None = Field(default=None, json_schema_extra=OPERATIONAL)
    """Where the writing and scoring is done, if not in this process."""
    budget: BudgetConfig = Field(default=BudgetConfig(), json_schema_extra=OPERATIONAL)
    prices: PricesConfig = Field(default=PricesConfig(), json_schema_extra=OPERATIONAL)

    @model_validator(mode="after")
    def _paraphrases_are_written(self) -> Config:
        if self.training.paraphrases and not self.instructions.paraphrases.per_winner:
            raise ValueError("training.paraphrases needs some; set instructions.paraphrases.per_winner to 2 or more")
        return self

    @model_validator(mode="after")
    def _endpoints_are_not_trained(self) -> Config:
        if self.engine.name == "openai" and self.training.student is None:
            raise ValueError("a generator behind an endpoint is not trained; set training.student to a local model that is")
        return self

    @model_validator(mode="after")
    def _money_has_a_price(self) -> Config:
        prices = (self.prices.hour, self.prices.million_tokens, self.prices.million_prompt_tokens)
        if self.budget.cost is not None and not any(prices):
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
        return asset(value.removeprefix(ASSET)) if value.startswith(ASSET) else (self.base / expanded(value))

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
