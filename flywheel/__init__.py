"""A synthetic-data flywheel with best-of-N sampling.

The public API; each name is imported when it is first used, so that `import flywheel` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flywheel.api import Flywheel as Flywheel
    from flywheel.api import Round as Round
    from flywheel.api import open as open
    from flywheel.errors import BudgetSpent as BudgetSpent
    from flywheel.errors import ConfigError as ConfigError
    from flywheel.errors import DataError as DataError
    from flywheel.errors import EngineError as EngineError
    from flywheel.errors import FlywheelError as FlywheelError
    from flywheel.errors import Interrupted as Interrupted
    from flywheel.errors import ModelError as ModelError
    from flywheel.errors import StoreError as StoreError
    from flywheel.evaluation.scores import compare_scores as compare_scores
    from flywheel.evaluation.trend import Trend as Trend
    from flywheel.evaluation.verdict import Comparison as Comparison
    from flywheel.evaluation.verdict import Verdict as Verdict
    from flywheel.records import Task as Task
    from flywheel.reward.model import RewardModel as RewardModel
    from flywheel.round.best_of_n import BestOfN as BestOfN
    from flywheel.round.best_of_n import best_of_n as best_of_n

_MODULES = {
    "BestOfN": "round.best_of_n",
    "BudgetSpent": "errors",
    "Comparison": "evaluation.verdict",
    "ConfigError": "errors",
    "DataError": "errors",
    "EngineError": "errors",
    "Flywheel": "api",
    "FlywheelError": "errors",
    "Interrupted": "errors",
    "ModelError": "errors",
    "RewardModel": "reward.model",
    "Round": "api",
    "StoreError": "errors",
    "Task": "records",
    "Trend": "evaluation.trend",
    "Verdict": "evaluation.verdict",
    "__version__": "core.version",
    "best_of_n": "round.best_of_n",
    "compare_scores": "evaluation.scores",
    "open": "api",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'flywheel' has no attribute {name!r}")
    return getattr(import_module(f"flywheel.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
