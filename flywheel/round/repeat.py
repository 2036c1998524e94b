"""Several rounds in a row, each with its control where one is asked for, until the gain stops."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from flywheel.config import Config
from flywheel.core.progress import Progress
from flywheel.evaluation.trend import rounds_without_gain
from flywheel.records import Policy
from flywheel.round.budget import Budget
from flywheel.round.loop import run_control, run_next_round
from flywheel.round.opening import unfinished_control
from flywheel.store import reading
from flywheel.workspace import Workspace


def run_rounds(
    workspace: Workspace,
    config: Config,
    progress: Progress,
    *,
    repeat: int = 1,
    until_flat: bool = False,
    control: Policy | None = None,
    restart: bool = False,
) -> Iterator[str]:
    """Run up to ``repeat`` rounds within one budget; yields the name of each round and control as it is done.

    ``until_flat`` stops after ``evaluation.patience`` rounds without gain, and logs it. ``restart`` starts an unfinished
    round over. Raises as `run_next_round`; the same call resumes.
    """
    budget = Budget(config.budget, config.prices)
    for number in range(repeat):
        restarts = restart and number == 0
        unfinished = unfinished_control(workspace, control) if control is not None and not restarts else None
        name = unfinished or run_next_round(workspace, config, progress, restart=restarts, budget=budget)
        yield name
        if control is not None:
            yield run_control(workspace, control, progress, of=name, budget=budget)
        if until_flat and (reason := _why_stop(workspace, config)):
            logging.getLogger("flywheel").warning(reason)
            return


def _why_stop(workspace: Workspace, config: Config) -> str | None:
    path = workspace.store.path
    verdicts = [row["verdict"] for row in reading.rounds_summary(path).as_dicts() if row["policy"] == Policy.BEST]
    count = rounds_without_gain([verdict for verdict in verdicts if verdict])
    if count < config.evaluation.patience:
        return None
    best = reading.query(path, "SELECT round FROM best_round").rows
    return f"Stopped after {count} rounds without gain (evaluation.patience); the best round is {best[0][0] if best else 'r0'}."
