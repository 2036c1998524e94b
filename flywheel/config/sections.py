"""The whole configuration, section by section.

Paths are folders, files or hub ids; ``asset:`` in front of one means a file that ships with flywheel.
Relative paths start at ``base``, by default the folder of the YAML file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from flywheel.config.evaluation import EvaluationConfig
from flywheel.config.generation import InstructionsConfig, SamplingConfig
from flywheel.config.resources import BudgetConfig, ClusterConfig, EngineConfig, PricesConfig
from flywheel.config.section import OPERATIONAL, Problem, Section, Seed
from flywheel.config.training import RewardConfig, TrainingConfig
from flywheel.core.assets import ASSET, asset
from flywheel.core.files import expanded


class Config(Section):
    """Everything a run is made from."""

    base: Path = Field(default=Path("."), json_schema_extra=OPERATIONAL)
    """Folder that relative paths are resolved against."""
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
    instructions: InstructionsConfig = InstructionsConfig()
    sampling: SamplingConfig = SamplingConfig()
    reward: RewardConfig
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig
    cluster: ClusterConfig | None = Field(default=None, json_schema_extra=OPERATIONAL)
    """The Ray cluster that generates and scores, if not this process."""
    budget: BudgetConfig = Field(default=BudgetConfig(), json_schema_extra=OPERATIONAL)
    prices: PricesConfig = Field(default=PricesConfig(), json_schema_extra=OPERATIONAL)

    def problems(self) -> Iterator[Problem]:
        if self.training.paraphrases and not self.instructions.paraphrases.per_winner:
            yield "training.paraphrases needs paraphrases", "Set `instructions.paraphrases.per_winner` to at least 1."
        if self.engine.name == "openai" and self.training.student is None:
            hint = "Set `training.student` to a local model, which is trained in place of the generator."
            yield "engine.name = 'openai' needs training.student: the model of an endpoint cannot be trained", hint
        if self.budget.cost is not None and not any(self.prices.model_dump().values()):
            yield f"budget.cost = {self.budget.cost} needs a price", "Set `prices.hour` or `prices.million_tokens`."
        cap, longest = self.sampling.max_tokens, self.training.max_length
        if cap >= longest:
            hint = "Raise `training.max_length`, or lower `sampling.max_tokens`."
            yield f"sampling.max_tokens = {cap} must be below training.max_length = {longest}", hint

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


def _flatten(section: Section, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, field in type(section).model_fields.items():
        if field.json_schema_extra == OPERATIONAL:
            continue
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, dict) and any(isinstance(item, Section) for item in value.values()):
            for key, item in value.items():
                yield from _flatten(item, f"{prefix}{name}.{key}.")
        else:
            yield f"{prefix}{name}", value
