"""What finished rounds of a workspace took: the best estimate of what the next one will."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.config import Config
from flywheel.records import Stage
from flywheel.store.reading import query

WRITES = ("generator", "prompt_style", "engine", "training.student")
PROPOSES = tuple(f"instructions.{key}" for key in "meta_prompt demos best_of temperature top_p max_tokens filters".split())
ANSWERS = ("sampling.temperature", "sampling.top_p", "sampling.max_tokens")
SCORES = ("reward.base", "reward.layers", "reward.max_length", "reward.batch_tokens")
DEPENDS_ON: Mapping[Stage, Sequence[str]] = {
    Stage.PROPOSE: (*WRITES, *PROPOSES),
    Stage.ANSWER: (*WRITES, *ANSWERS),
    Stage.SCORE: SCORES,
    Stage.SELECT: SCORES,
    Stage.JUDGE: (*ANSWERS, "evaluation.judge", "evaluation.judges"),
    Stage.PARAPHRASE: (*WRITES, *SCORES, "instructions.paraphrases"),
    Stage.TRAIN: ("generator", "training"),
    Stage.EVALUATE: (*WRITES, *ANSWERS, *SCORES, "evaluation.judge", "evaluation.judges"),
}
"""What must have been the same for a stage's rate to hold; how many tasks and candidates there were need not be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What a stage of a finished round took a row (an attempt, a candidate, a text that was trained on)."""

    round: str
    seconds: float
    tokens: float
    """Generated."""
    kept: float = 1.0
    """Share of the attempts at a task that were kept."""


def rates(path: Path, config: Config) -> dict[Stage, Rate]:
    """The rate of each stage in the latest finished round whose settings were these; stages without one are left out."""
    if not path.exists():
        return {}
    found = query(
        path,
        "SELECT r.round, s.stage, s.rows, s.tokens, s.seconds, r.config, "
        "(SELECT count(*) FILTER (kept) / count(*) FROM tasks AS t WHERE t.round = r.round AND t.origin = 'proposed') AS kept, "
        "(SELECT m.facts FROM models AS m WHERE m.model_id = r.generator_out) AS trained "
        "FROM rounds AS r JOIN stages AS s USING (round) "
        "WHERE r.status = 'done' AND s.finished_at IS NOT NULL AND s.rows > 0 ORDER BY r.number",
    ).as_dicts()
    now, rated = config.model_dump(mode="json"), {}
    for row in found:
        stage, then = Stage(row["stage"]), json.loads(row["config"])
        if any(_value(then, key) != _value(now, key) for key in DEPENDS_ON[stage]):
            continue
        rows = row["rows"]
        if stage is Stage.TRAIN:
            rows = json.loads(row["trained"] or "{}").get("rows") or rows
        kept = row["kept"] if stage is Stage.PROPOSE and row["kept"] else 1.0
        rated[stage] = Rate(round=row["round"], seconds=row["seconds"] / rows, tokens=row["tokens"] / rows, kept=kept)
    return rated


def _value(values: Any, key: str) -> Any:
    for name in key.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values
