"""What the HTML report reads from a store: the figures of every round as rows, and the tasks as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flywheel.records import Policy, Stage
from flywheel.store.opening import sql_file, sql_files
from flywheel.store.reading import query

Row = dict[str, Any]

TASK_FIELDS = (
    "round", "id", "attempt", "instruction", "input", "constraints", "kind", "demos", "margin", "selected", "candidates",
    "paraphrases",
)  # fmt: skip
"""The values of a task in its JSON, in order."""
CANDIDATE_FIELDS = ("candidate", "output", "finish", "tokens", "logprob", "reward", "judges", "members")
"""The values of a candidate, in order; judges and members are lists of scores, empty where there are none."""


def figures(path: Path) -> dict[str, list[Row]]:
    """What the charts and tables of the report show, by name: the rows of each query in `figures/`."""
    values = {"stages": [str(stage) for stage in Stage]}
    return {
        name: query(path, sql, values if "$stages" in sql else None).as_dicts() for name, sql in sql_files("figures").items()
    }


def answered(path: Path) -> dict[str, int]:
    """How many tasks of each round have candidates."""
    sql = (
        "SELECT r.round, count(DISTINCT c.task_id) FROM rounds AS r JOIN candidates AS c USING (round) "
        "GROUP BY r.round, r.number ORDER BY r.number"
    )
    return dict(query(path, sql).rows)


def scorers(path: Path) -> list[Row]:
    """The members and judges that scored candidates; the judge that decides comes first."""
    sql = (
        "SELECT kind, model_id, name FROM models "
        "WHERE kind IN ('member', 'judge') AND model_id IN (SELECT DISTINCT model_id FROM scores) "
        "ORDER BY model_id NOT IN (SELECT judge FROM rounds), created_at, name"
    )
    return query(path, sql).as_dicts()


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


def instructions(path: Path, ids: Iterable[str], *, longest: int) -> dict[str, tuple[str, str]]:
    """The instruction of seeds and tasks, cut at ``longest`` characters, and where each is from: seed or a round."""
    sql = """
        SELECT task_id, left(arg_min(instruction, number), $longest), arg_min(origin, number) FROM (
            SELECT task_id, instruction, -1 AS number, 'seed' AS origin FROM seed_tasks
            UNION ALL
            SELECT t.task_id, t.instruction, r.number, t.round FROM tasks AS t JOIN rounds AS r USING (round) WHERE t.kept
        ) WHERE list_contains($ids, task_id) GROUP BY task_id
    """
    return {task_id: (text, origin) for task_id, text, origin in query(path, sql, {"longest": longest, "ids": list(ids)}).rows}


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
