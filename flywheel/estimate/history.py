"""How far a workspace is, and what its finished rounds took: the only estimate of time that a plan makes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.config import Config
from flywheel.records import Stage
from flywheel.round.fingerprint import refuse_changes
from flywheel.store.reading import query
from flywheel.workspace import Workspace

GENERATES = ("generator", "prompt_style", "engine")
DEPENDS_ON: Mapping[Stage, Sequence[str]] = {
    Stage.PROPOSE: (*GENERATES, "instructions"),
    Stage.ANSWER: (*GENERATES, "sampling"),
    Stage.SCORE: ("reward",),
    Stage.SELECT: ("reward",),
    Stage.JUDGE: (*GENERATES, "sampling", "evaluation"),
    Stage.PARAPHRASE: (*GENERATES, "instructions", "reward"),
    Stage.TRAIN: ("generator", "training"),
    Stage.EVALUATE: (*GENERATES, "sampling", "reward", "evaluation", "training"),
}
"""The config sections that a stage's rate holds for; the numbers of tasks and candidates may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What a stage of a finished round took per row (an attempt, a candidate, a training text)."""

    round: str
    seconds: float
    tokens: float
    """Generated tokens."""
    kept: float
    """Share of the round's attempts at a task that were kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How far a workspace is."""

    rounds: Sequence[str] = ("r0", "r1")
    """The rounds to run: r0 if it is not evaluated yet, and the next one."""
    done: Sequence[str] = ()
    """Their finished stages, such as ``r1 propose``."""
    rates: Mapping[Stage, Rate]
    winners: int = 0
    """Texts of finished rounds that an accumulating training takes too."""


def read_state(workspace: Workspace, config: Config, identity: Mapping[str, Any], *, restart: bool) -> State:
    """Read the database, if there is one; raises ConfigError if an unfinished round was started with other settings."""
    path = workspace.store.path
    if not path.exists():
        return State(rates={})
    rounds = workspace.store.rounds()
    if not restart:
        refuse_changes(rounds, identity)
    finished = [row.round for row in rounds if row.status == "done"]
    unfinished = [row.round for row in rounds if row.status != "done" and not restart]
    names = unfinished or [f"r{len(finished)}"]
    done = "SELECT round || ' ' || stage FROM stages WHERE finished_at IS NOT NULL AND list_contains(?, round)"
    winners = "SELECT count(*) FROM expanded WHERE list_contains(?, round) AND list_contains(?, origin)"
    origins = ["proposed", "paraphrased"] if config.training.paraphrases else ["proposed"]
    return State(
        rounds=[*names, "r1"] if names == ["r0"] else names,
        done=[name for (name,) in query(path, done, [unfinished]).rows],
        rates=_rates(workspace, config),
        winners=query(path, winners, [finished, origins]).rows[0][0],
    )


def _rates(workspace: Workspace, config: Config) -> dict[Stage, Rate]:
    """The rate of each stage in the latest finished round with these settings."""
    measured = query(
        workspace.store.path,
        "SELECT r.round, s.stage, s.rows, s.tokens, s.seconds, r.config, "
        "(SELECT count(*) FILTER (kept) / count(*) FROM tasks AS t WHERE t.round = r.round AND t.origin = 'proposed') AS kept, "
        "(SELECT m.facts FROM models AS m WHERE m.model_id = r.generator_out) AS trained "
        "FROM rounds AS r JOIN stages AS s USING (round) "
        "WHERE r.status = 'done' AND s.finished_at IS NOT NULL AND s.rows > 0 ORDER BY r.number",
    ).as_dicts()
    now, rates = _without_counts(config.model_dump(mode="json")), {}
    for row in measured:
        stage, before = Stage(row["stage"]), _without_counts(json.loads(row["config"]))
        if any(before.get(section) != now[section] for section in DEPENDS_ON[stage]):
            continue
        rows = (json.loads(row["trained"] or "{}").get("rows") if stage is Stage.TRAIN else None) or row["rows"]
        kept, seconds, tokens = row["kept"] or 1.0, row["seconds"] / rows, row["tokens"] / rows
        rates[stage] = Rate(round=row["round"], seconds=seconds, tokens=tokens, kept=kept)
    return rates


def _without_counts(config: dict[str, Any]) -> dict[str, Any]:
    counts = {"instructions": "tasks", "sampling": "n", "evaluation": "samples"}
    return config | {
        section: {key: value for key, value in config[section].items() if key != count} for section, count in counts.items()
    }
