"""What the HTML report reads from a store: the figures of every round as rows, and the tasks as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from flywheel.records import Policy, Stage
from flywheel.store.reading import query

Row = dict[str, Any]

TASK_FIELDS = (
    "round", "id", "attempt", "instruction", "input", "constraints", "kind", "demos", "margin", "selected", "candidates",
    "paraphrases",
)  # fmt: skip
"""The values of a task in its JSON, in order."""
CANDIDATE_FIELDS = ("candidate", "output", "finish", "tokens", "logprob", "reward", "judges", "members")
"""The values of a candidate, in order; judges and members are lists of scores, empty where there are none."""

_FIGURES = {
    # Rounds and controls, with the first stage that is not finished.
    "rounds": """
        SELECT
            r.round, r.number, r.parent, r.policy, r.status, r.config ->> '$.generator' AS generator, r.reward_model,
            j.name AS judge, coalesce((r.config ->> '$.sampling.n')::INTEGER, 0) AS n, s.kept, s.candidates, s.winners,
            (SELECT arg_min(t.stage, list_position($stages, t.stage)) FROM stages AS t
             WHERE t.round = r.round AND t.finished_at IS NULL) AS unfinished
        FROM rounds AS r
        JOIN rounds_summary AS s USING (round)
        LEFT JOIN models AS j ON j.model_id = r.judge
        ORDER BY r.number, r.policy <> 'best', r.round
    """,
    "measures": """
        SELECT m.round, r.number, r.policy, m.name, m.value, m.low, m.high
        FROM metrics AS m JOIN rounds AS r USING (round)
        ORDER BY r.number, r.policy <> 'best', r.round, m.name
    """,
    "policies": """
        SELECT p.round, r.number, p.policy, p.tasks, p.reward, p.tokens, NULL AS judge, NULL AS value
        FROM policies AS p JOIN rounds AS r USING (round)
        ORDER BY r.number, p.policy <> 'best', p.reward DESC
    """,
    # Tokens of all candidates and of the winners: mean, 10th and 90th percentile; finish rate in percent.
    "lengths": """
        SELECT
            c.round, r.number, o.candidates, count(*) AS count, avg(c.tokens) AS value,
            quantile_cont(c.tokens, 0.1) AS low, quantile_cont(c.tokens, 0.9) AS high,
            100 * avg((c.finish_reason = 'stop')::INTEGER) AS finished
        FROM candidates AS c
        JOIN rounds AS r USING (round)
        LEFT JOIN selections AS s
            ON s.round = c.round AND s.task_id = c.task_id AND s.candidate = c.candidate AND s.policy = 'best'
        JOIN (VALUES ('all'), ('winners')) AS o(candidates) ON o.candidates = 'all' OR s.candidate IS NOT NULL
        GROUP BY ALL
        ORDER BY r.number, o.candidates
    """,
    # Attempts at a task by result, with the first of each.
    "drops": """
        SELECT
            t.round, t.origin, coalesce(t.reason, 'kept') AS reason, count(*) AS attempts,
            100 * count(*) / sum(count(*)) OVER (PARTITION BY t.round, t.origin) AS share,
            coalesce(arg_min(left(t.raw, 300), t.attempt), '') AS example
        FROM tasks AS t
        JOIN rounds AS r USING (round)
        GROUP BY t.round, r.number, t.origin, t.reason
        ORDER BY r.number, t.origin DESC, bool_or(t.kept) DESC, attempts DESC, reason
    """,
    "stages": """
        SELECT
            s.round, s.stage, s.rows, nullif(s.prompt_tokens, 0) AS prompt_tokens, nullif(s.tokens, 0) AS tokens, s.seconds,
            s.tokens / nullif(s.seconds, 0) AS speed, nullif(s.cost, 0) AS cost,
            CASE WHEN s.finished_at IS NULL THEN 'not finished' END AS state
        FROM stages AS s
        JOIN rounds AS r USING (round)
        ORDER BY r.number, r.policy <> 'best', r.round, list_position($stages, s.stage)
    """,
    # Reward models that select, and all members, with their facts as JSON.
    "models": """
        SELECT m.model_id, m.facts, list(r.round ORDER BY r.number) AS rounds
        FROM rounds AS r JOIN models AS m ON m.model_id = r.reward_model
        WHERE r.policy = 'best' GROUP BY ALL ORDER BY min(r.number)
    """,
    "members": "SELECT model_id, name, facts FROM models WHERE kind = 'member'",
}
"""What the charts and tables of the report show, by name."""


def figures(path: Path) -> dict[str, list[Row]]:
    """The rows of each query in `_FIGURES`."""
    stages = [str(stage) for stage in Stage]
    return {
        name: query(path, sql, {"stages": stages} if "$stages" in sql else None).as_dicts() for name, sql in _FIGURES.items()
    }


def answered(path: Path) -> dict[str, int]:
    """How many tasks of each round have candidates."""
    return dict(
        query(
            path,
            "SELECT r.round, count(DISTINCT c.task_id) FROM rounds AS r JOIN candidates AS c USING (round) "
            "GROUP BY r.round, r.number ORDER BY r.number",
        ).rows
    )


def scorers(path: Path) -> list[Row]:
    """The members and judges that scored candidates; the judge that decides comes first."""
    return query(
        path,
        "SELECT kind, model_id, name FROM models "
        "WHERE kind IN ('member', 'judge') AND model_id IN (SELECT DISTINCT model_id FROM scores) "
        "ORDER BY model_id NOT IN (SELECT judge FROM rounds), created_at, name",
    ).as_dicts()


def tasks(
    path: Path, *, judges: Sequence[str], members: Sequence[str], tasks: int | None, size: int, longest: int
) -> list[tuple[str, str]]:
    """The round and the JSON of tasks, see `TASK_FIELDS`: the first of every round by task id, then the second, and so on.

    There are at most ``tasks`` of a round or, where that is None, as many as take about ``size`` bytes. Texts are cut at
    ``longest`` characters.
    """
    sql = files("flywheel.store").joinpath("report_tasks.sql").read_text(encoding="utf-8").format(
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
