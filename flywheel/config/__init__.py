"""A run's configuration: what `configs/*.yaml` may say, checked before anything is loaded."""

from flywheel.config.evaluation import EvaluationConfig, JudgeConfig
from flywheel.config.generation import FiltersConfig, InstructionsConfig, ParaphrasesConfig
from flywheel.config.loading import as_text, find, load, parse
from flywheel.config.resources import BudgetConfig, ClusterConfig, EndpointConfig, EngineConfig, PricesConfig
from flywheel.config.sections import Config
from flywheel.config.training import (
    COLUMNS,
    DataConfig,
    JointConfig,
    LoraConfig,
    MemberConfig,
    MergeConfig,
    RewardConfig,
    SearchConfig,
    TrainingConfig,
)

__all__ = [
    "COLUMNS",
    "BudgetConfig",
    "ClusterConfig",
    "Config",
    "DataConfig",
    "EndpointConfig",
    "EngineConfig",
    "EvaluationConfig",
    "FiltersConfig",
    "InstructionsConfig",
    "JointConfig",
    "JudgeConfig",
    "LoraConfig",
    "MemberConfig",
    "MergeConfig",
    "ParaphrasesConfig",
    "PricesConfig",
    "RewardConfig",
    "SearchConfig",
    "TrainingConfig",
    "as_text",
    "find",
    "load",
    "parse",
]
