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
DEPENDS_ON: Mapping[str, Sequence[str]] = {
    Stage.PROPOSE: (*GENERATES, "instructions"),
    Stage.ANSWER: (*GENERATES, "sampling"),
    Stage.SCORE: ("reward",),
    Stage.SELECT: ("reward",),
    Stage.JUDGE: (*GENERATES, "sampling", "evaluation"),
    Stage.PARAPHRASE: (*GENERATES, "instructions", "reward"),
    Stage.TRAIN: ("generator", "training"),
    Stage.EVALUATE: (*GENERATES, "sampling", "reward", "evaluation", "training"),
}
"""The config sections that a stage's rate holds for."""
COUNTS = {"instructions": {"tasks": None}, "sampling": {"n": None}, "evaluation": {"samples": None}}
"""Keys that may differ, as a rate is per row."""
RATES = """
SELECT
    r.round, s.stage, json_merge_patch(r.config, ?) AS config,
    coalesce(CASE WHEN s.stage = 'train' THEN (m.facts ->> 'rows')::INTEGER END, s.rows) AS texts,
    s.seconds / texts AS seconds,
    s.tokens / texts AS tokens,
    (SELECT count(*) FILTER (kept) / count(*) FROM tasks AS t WHERE t.round = r.round AND t.origin = 'proposed') AS kept
FROM rounds AS r JOIN stages AS s USING (round) LEFT JOIN models AS m ON m.model_id = r.generator_out
WHERE r.status = 'done' AND s.finished_at IS NOT NULL AND s.rows > 0
ORDER BY r.number
"""


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
    rates: Mapping[str, Rate]
    """By stage, from the latest finished round with these settings."""
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
    rates, now = {}, config.model_dump(mode="json", exclude={section: set(keys) for section, keys in COUNTS.items()})
    for row in query(path, RATES, [json.dumps(COUNTS)]).as_dicts():
        stage, before = row["stage"], json.loads(row["config"])
        if all(before.get(section) == now[section] for section in DEPENDS_ON[stage]):
            kept = row["kept"] or 1.0
            rates[stage] = Rate(round=row["round"], seconds=row["seconds"], tokens=row["tokens"], kept=kept)
    return State(
        rounds=[*names, "r1"] if names == ["r0"] else names,
        done=[name for (name,) in query(path, done, [unfinished]).rows],
        rates=rates,
        winners=query(path, winners, [finished, origins]).rows[0][0],
    )
