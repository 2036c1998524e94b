"""A run's configuration: what `configs/*.yaml` may say, checked before anything is loaded."""

from flywheel.config.budget import BudgetConfig, PricesConfig
from flywheel.config.cluster import ClusterConfig
from flywheel.config.engine import EndpointConfig, EngineConfig
from flywheel.config.evaluation import EvaluationConfig, JudgeConfig
from flywheel.config.instructions import FiltersConfig, InstructionsConfig, ParaphrasesConfig
from flywheel.config.loading import as_text, check, find, load, parse
from flywheel.config.reward import (
    COLUMNS,
    DataConfig,
    JointConfig,
    LoraConfig,
    MemberConfig,
    MergeConfig,
    RewardConfig,
    SearchConfig,
)
from flywheel.config.section import OPERATIONAL, Section
from flywheel.config.sections import Config, SamplingConfig
from flywheel.config.training import TrainingConfig

__all__ = [
    "COLUMNS",
    "OPERATIONAL",
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
    "SamplingConfig",
    "SearchConfig",
    "Section",
    "TrainingConfig",
    "as_text",
    "check",
    "find",
    "load",
    "parse",
]
