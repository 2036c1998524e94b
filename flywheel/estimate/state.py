"""How far a workspace is: which rounds a turn would go through, and what of them is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.config import Config
from flywheel.estimate.history import Rate, rates
from flywheel.records import Stage
from flywheel.round.fingerprint import refuse_changes
from flywheel.store.reading import query
from flywheel.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a turn finds."""

    rounds: Sequence[str]
    """Those that it goes through: r0 where that is not evaluated yet, and the next."""
    done: Sequence[str]
    """Their finished stages, such as ``r1 propose``."""
    rates: Mapping[Stage, Rate]
    winners: int
    """Texts of finished rounds that an accumulating training takes too."""


def state_of(workspace: Workspace, config: Config, identity: Mapping[str, Any], *, restart: bool) -> State:
    """Read the database, where there is one; only one of an older flywheel is changed, as whatever reads it upgrades it.

    Raises ConfigError where an unfinished round was begun with other settings.
    """
    path = workspace.store.path
    if not path.exists():
        return State(rounds=("r0", "r1"), done=(), rates={}, winners=0)
    rounds = workspace.store.rounds()
    if not restart:
        refuse_changes(rounds, identity)
    left = [one for one in rounds if one.status != "done" and not restart]
    passed = [one for one in rounds if one.status == "done"]
    names = [one.round for one in left] or [f"r{len(passed)}"]
    if names == ["r0"]:
        names.append("r1")
    done = query(
        path,
        "SELECT round || ' ' || stage AS name FROM stages WHERE finished_at IS NOT NULL AND list_contains(?, round)",
        [[one.round for one in left]],
    )
    origins = ["proposed", "paraphrased"] if config.training.paraphrases else ["proposed"]
    winners = query(
        path,
        "SELECT count(*) FROM expanded WHERE list_contains(?, round) AND list_contains(?, origin)",
        [[one.round for one in passed], origins],
    )
    return State(rounds=names, done=[row[0] for row in done.rows], rates=rates(path, config), winners=winners.rows[0][0])
