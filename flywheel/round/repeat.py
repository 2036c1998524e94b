"""Several rounds in a row, each with its control where one is asked for, until the gain stops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flywheel.config import Config
from flywheel.core.progress import Progress
from flywheel.evaluation.trend import rounds_without_gain
from flywheel.records import Policy
from flywheel.round.budget import Budget
from flywheel.round.loop import run_control, run_next_round
from flywheel.round.opening import unfinished_control
from flywheel.store import reading
from flywheel.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A finished round."""

    round: str
    control: str | None = None
    """The control that was trained beside it."""
    stop: str | None = None
    """Why no further round is run, though more were asked for."""


def run_rounds(
    workspace: Workspace,
    config: Config,
    progress: Progress,
    *,
    repeat: int = 1,
    until_flat: bool = False,
    control: Policy | None = None,
    restart: bool = False,
) -> Iterator[Turn]:
    """Run up to ``repeat`` rounds within one budget, yielding each as it is done.

    ``until_flat`` stops after ``evaluation.patience`` rounds without gain. ``restart`` starts an unfinished round over.
    Raises as `run_next_round`; the same call resumes.
    """
    budget = Budget(config.budget, config.prices)
    for number in range(repeat):
        restarts = restart and number == 0
        unfinished = unfinished_control(workspace, control) if control is not None and not restarts else None
        name = unfinished or run_next_round(workspace, config, progress, restart=restarts, budget=budget)
        beside = run_control(workspace, control, progress, of=name, budget=budget) if control is not None else None
        stop = _why_stop(workspace, config) if until_flat else None
        yield Turn(round=name, control=beside, stop=stop)
        if stop:
            return


def _why_stop(workspace: Workspace, config: Config) -> str | None:
    path = workspace.store.path
    verdicts = [row["verdict"] for row in reading.rounds_summary(path).as_dicts() if row["policy"] == Policy.BEST]
    count = rounds_without_gain([verdict for verdict in verdicts if verdict])
    if count < config.evaluation.patience:
        return None
    best = reading.query(path, "SELECT round FROM best_round").rows
    return f"Stopped after {count} rounds without gain (evaluation.patience); the best round is {best[0][0] if best else 'r0'}."
