"""What the report page asks of a workspace: figures of every round, and the tasks that it carries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flywheel.records import Stage
from flywheel.store.reading import Table, query

_STAGES = [str(stage) for stage in Stage]
_ROUNDS = """
SELECT
    r.round, r.number, r.parent, r.policy, r.status, r.config ->> '$.generator' AS generator, r.reward_model,
    j.name AS judge, coalesce((r.config ->> '$.sampling.n')::INTEGER, 0) AS n,
    s.proposed, s.kept, s.candidates, s.winners, s.verdict,
    (SELECT arg_min(t.stage, list_position(?, t.stage)) FROM stages AS t
     WHERE t.round = r.round AND t.finished_at IS NULL) AS unfinished
FROM rounds AS r
JOIN rounds_summary AS s USING (round)
LEFT JOIN models AS j ON j.model_id = r.judge
ORDER BY r.number, r.policy <> 'best', r.round
"""
_LENGTHS = """
WITH written AS (
    SELECT c.round, c.tokens, c.finish_reason, s.candidate IS NOT NULL AS won
    FROM candidates AS c
    LEFT JOIN selections AS s
        ON s.round = c.round AND s.task_id = c.task_id AND s.candidate = c.candidate AND s.policy = 'best'
)
SELECT
    w.round, r.number, o.of, count(*) AS count, avg(w.tokens) AS mean,
    quantile_cont(w.tokens, 0.1) AS low, quantile_cont(w.tokens, 0.9) AS high,
    avg((w.finish_reason = 'stop')::INTEGER) AS stopped
FROM written AS w
JOIN rounds AS r USING (round)
JOIN (VALUES ('all'), ('winners')) AS o(of) ON o.of = 'all' OR w.won
GROUP BY ALL
ORDER BY r.number, o.of
"""
_DROPS = """
SELECT
    t.round, r.number, t.origin, coalesce(t.reason, 'kept') AS fate, count(*) AS attempts,
    coalesce(arg_min(left(t.raw, 300), t.attempt), '') AS example
FROM tasks AS t
JOIN rounds AS r USING (round)
GROUP BY ALL
ORDER BY r.number, t.origin DESC, bool_or(t.kept) DESC, attempts DESC, fate
"""
_TASKS = """
WITH drawn AS (
    SELECT task_id, attempt, instruction, input, constraints, kind, demos FROM tasks
    WHERE round = $1 AND kept AND origin = 'proposed'
        AND task_id IN (SELECT task_id FROM candidates WHERE round = $1)
    ORDER BY task_id LIMIT $2
),
scored AS (
    SELECT s.task_id, s.candidate,
        max(s.score) FILTER (s.model_id = r.reward_model) AS reward,
        list({'model': s.model_id, 'score': s.score}) FILTER (s.model_id <> r.reward_model) AS others
    FROM scores AS s JOIN rounds AS r USING (round)
    WHERE s.round = $1 AND s.task_id IN (SELECT task_id FROM drawn)
    GROUP BY s.task_id, s.candidate
),
answered AS (
    SELECT c.task_id, list({
        'candidate': c.candidate, 'output': c.output, 'finish': c.finish_reason, 'tokens': c.tokens,
        'logprob': c.logprob, 'reward': s.reward, 'others': s.others
    } ORDER BY c.candidate) AS candidates
    FROM candidates AS c LEFT JOIN scored AS s USING (task_id, candidate)
    WHERE c.round = $1 AND c.task_id IN (SELECT task_id FROM drawn)
    GROUP BY c.task_id
),
picked AS (
    SELECT task_id, list({'policy': policy, 'candidate': candidate}) AS picks,
        any_value(margin) FILTER (policy = 'best') AS margin
    FROM selections WHERE round = $1 AND task_id IN (SELECT task_id FROM drawn) GROUP BY task_id
),
reworded AS (
    SELECT parent_task AS task_id, list({'instruction': instruction, 'reason': reason} ORDER BY attempt) AS paraphrases
    FROM tasks WHERE round = $1 AND origin = 'paraphrased' AND parent_task IN (SELECT task_id FROM drawn)
    GROUP BY parent_task
)
SELECT d.*, a.candidates, p.picks, p.margin, w.paraphrases
FROM drawn AS d JOIN answered AS a USING (task_id)
LEFT JOIN picked AS p USING (task_id)
LEFT JOIN reworded AS w USING (task_id)
ORDER BY d.task_id
"""


def rounds(path: Path) -> Table:
    """Every round and control at a glance, with the first stage that is not done."""
    return query(path, _ROUNDS, [_STAGES])


def measures(path: Path) -> Table:
    """The figures of every round, with their intervals."""
    return query(
        path,
        "SELECT m.round, r.number, r.policy, m.name, m.value, m.low, m.high FROM metrics AS m JOIN rounds AS r USING (round) "
        "ORDER BY r.number, r.policy <> 'best', r.round, m.name",
    )


def picks(path: Path) -> Table:
    """What each policy picked in each round."""
    return query(
        path,
        "SELECT a.round, r.number, a.policy, a.tasks, a.reward, a.tokens FROM policies AS a JOIN rounds AS r USING (round) "
        "ORDER BY r.number, a.policy <> 'best', a.reward DESC",
    )


def lengths(path: Path) -> Table:
    """Tokens of all candidates of a round and of its winners: mean, tenths, and how many ended by themselves."""
    return query(path, _LENGTHS)


def drops(path: Path) -> Table:
    """What became of the attempts at a task, with the first one of each fate."""
    return query(path, _DROPS)


def stages(path: Path) -> Table:
    """What each stage took."""
    return query(
        path,
        "SELECT s.round, r.number, s.stage, s.rows, coalesce(s.prompt_tokens, 0) AS prompt_tokens, s.tokens, s.seconds, "
        "s.cost, s.finished_at IS NOT NULL AS finished FROM stages AS s JOIN rounds AS r USING (round) "
        "ORDER BY r.number, r.policy <> 'best', r.round, list_position(?, s.stage)",
        [_STAGES],
    )


def reward_models(path: Path) -> Table:
    """The reward models that selected, with their facts (JSON) and the rounds they did it in."""
    return query(
        path,
        "SELECT m.model_id, m.facts, list(r.round ORDER BY r.number) AS rounds FROM rounds AS r "
        "JOIN models AS m ON m.model_id = r.reward_model WHERE r.policy = 'best' GROUP BY ALL ORDER BY min(r.number)",
    )


def members(path: Path) -> Table:
    """All members, with their facts (JSON)."""
    return query(path, "SELECT model_id, name, facts FROM models WHERE kind = 'member'")


def answered(path: Path) -> Table:
    """How many tasks of each round were answered."""
    return query(
        path,
        "SELECT r.round, count(DISTINCT c.task_id) FROM rounds AS r JOIN candidates AS c USING (round) "
        "GROUP BY r.round, r.number ORDER BY r.number",
    )


def texts(path: Path, *, longest: int) -> tuple[int, int]:
    """Bytes of all texts of answered tasks, each cut at ``longest`` characters, and the number of candidates."""
    ((size, candidates),) = query(
        path,
        """
        SELECT
            (SELECT sum(strlen(left(coalesce(output, ''), $1))) FROM candidates)
            + (SELECT sum(strlen(left(instruction, $1)) + strlen(left(input, $1)) + strlen(constraints))
               FROM tasks WHERE kept AND origin = 'proposed'),
            (SELECT count(*) FROM candidates)
        """,
        [longest],
    ).rows
    return int(size or 0), candidates


def scorers(path: Path) -> Table:
    """Kind, id and name of the members and judges that scored candidates; a judge that decides comes first."""
    return query(
        path,
        """
        SELECT m.kind, m.model_id, m.name FROM models AS m
        WHERE m.kind IN ('member', 'judge') AND m.model_id IN (SELECT DISTINCT model_id FROM scores)
        ORDER BY m.model_id NOT IN (SELECT judge FROM rounds), m.created_at, m.name
        """,
    )


def tasks(path: Path, name: str, most: int) -> Table:
    """The first answered tasks of a round by their ids, each with its candidates, scores, picks and paraphrases."""
    return query(path, _TASKS, [name, most])


def instructions(path: Path, ids: Sequence[str], *, longest: int) -> Table:
    """What seeds and tasks ask for, cut short, and where each is from: ``seed`` or its first round."""
    return query(
        path,
        """
        SELECT task_id, left(arg_min(instruction, number), $1), arg_min(origin, number) FROM (
            SELECT task_id, instruction, -1 AS number, 'seed' AS origin FROM seed_tasks
            UNION ALL
            SELECT t.task_id, t.instruction, r.number, t.round FROM tasks AS t JOIN rounds AS r USING (round) WHERE t.kept
        ) WHERE list_contains($2, task_id) GROUP BY task_id
        """,
        [longest, list(ids)],
    )
