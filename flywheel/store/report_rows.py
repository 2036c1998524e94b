"""What the HTML report reads from a store: rows of the queries in `report_rows.sql`, and the tasks as JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flywheel.records import Policy
from flywheel.store.opening import sql_file
from flywheel.store.reading import query

Row = dict[str, Any]

TASK_FIELDS = (
    "round", "id", "attempt", "instruction", "input", "constraints", "kind", "demos", "margin", "selected", "candidates",
    "paraphrases",
)  # fmt: skip
"""The values of a task in its JSON, in order."""
CANDIDATE_FIELDS = ("candidate", "output", "finish", "tokens", "logprob", "reward", "judges", "members")
"""The values of a candidate, in order; judges and members are lists of scores, empty where there are none."""


def rows(path: Path, name: str, **values: Any) -> list[Row]:
    """The rows of the query of this name in `report_rows.sql`; ``values`` are its parameters."""
    queries = dict(re.findall(r"^-- name: (\w+)\n(.*?;)$", sql_file("report_rows.sql"), re.MULTILINE | re.DOTALL))
    return query(path, queries[name], values).as_dicts()


def tasks(
    path: Path, *, judges: Sequence[str], members: Sequence[str], tasks: int | None, size: int, longest: int
) -> list[tuple[str, str]]:
    """The round and the JSON of tasks, see `TASK_FIELDS`: the first of every round by task id, then the second, and so on.

    There are at most ``tasks`` of a round or, where that is None, as many as take about ``size`` bytes. Texts are cut at
    ``longest`` characters.
    """
    sql = sql_file("report_tasks.sql").format(
        **{name: _cut(f"t.{name}") for name in ("instruction", "input", "constraints")},
        output=_cut("c.output"), paraphrase=_cut("coalesce(p.instruction, '')"), logprob=_number("c.logprob"),
        reward=_number("s.reward"), margin=_number("p.margin"), judges=_scores("$judges"), members=_scores("$members"),
    )  # fmt: skip
    values = {"judges": list(judges), "members": list(members), "tasks": tasks, "size": size, "longest": longest}
    return query(path, sql, values | {"policies": [str(policy) for policy in Policy]}).rows


def _cut(text: str) -> str:
    return (
        f"CASE WHEN length({text}) <= $longest THEN {text} ELSE left({text}, $longest) || "
        f"format('… ({{:,}} characters in total; the page has the first {{:,}})', length({text}), $longest) END"
    )


def _number(value: str) -> str:
    return f"CASE WHEN isfinite({value}) THEN round({value}, 3) END"


def _scores(models: str) -> str:
    number = _number("s.by_model[model]")
    return f"CASE WHEN list_has_any(map_keys(s.by_model), {models}) THEN [{number} FOR model IN {models}] ELSE [] END"
