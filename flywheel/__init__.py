"""A synthetic-data flywheel with best-of-N sampling.

The public API; each name is imported when it is first used, so that `import flywheel` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flywheel.api import Flywheel, Round, open
    from flywheel.errors import (
        BudgetSpent,
        ConfigError,
        DataError,
        EngineError,
        FlywheelError,
        Interrupted,
        ModelError,
        StoreError,
    )
    from flywheel.evaluation.scores import compare_scores
    from flywheel.evaluation.trend import Trend
    from flywheel.evaluation.verdict import Comparison, Verdict
    from flywheel.records import Task
    from flywheel.reward.model import RewardModel
    from flywheel.round.best_of_n import BestOfN, best_of_n

_MODULES = {
    "flywheel.api": ("Flywheel", "Round", "open"),
    "flywheel.core.version": ("__version__",),
    "flywheel.errors": (
        "BudgetSpent", "ConfigError", "DataError", "EngineError", "FlywheelError", "Interrupted", "ModelError", "StoreError",
    ),
    "flywheel.evaluation.scores": ("compare_scores",),
    "flywheel.evaluation.trend": ("Trend",),
    "flywheel.evaluation.verdict": ("Comparison", "Verdict"),
    "flywheel.records": ("Task",),
    "flywheel.reward.model": ("RewardModel",),
    "flywheel.round.best_of_n": ("BestOfN", "best_of_n"),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "BestOfN",
    "BudgetSpent",
    "Comparison",
    "ConfigError",
    "DataError",
    "EngineError",
    "Flywheel",
    "FlywheelError",
    "Interrupted",
    "ModelError",
    "RewardModel",
    "Round",
    "StoreError",
    "Task",
    "Trend",
    "Verdict",
    "__version__",
    "best_of_n",
    "compare_scores",
    "open",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'flywheel' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
