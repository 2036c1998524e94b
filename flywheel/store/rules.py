"""What must hold between the rows of a database, as queries that give a line for each fault."""

from __future__ import annotations

from dataclasses import dataclass

from flywheel.store.store import OF_ROUNDS

SEED_TASKS_SINCE = 3
"""The schema that began to keep the seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A rule on the rows; ``sql`` gives one line of text for each fault."""

    name: str
    sql: str
    remedy: str


NAMED = "names"
"""The check that all models are recorded that rounds name."""
BACKUP = "put back a backup made before (`flywheel restore`)"
UNFIT = f"{BACKUP}, or leave the round out of what you conclude"
DELETE = f"{BACKUP}, or " + "delete them with duckdb: DELETE FROM {} WHERE round = '…', after a `flywheel backup`"

COUNTS = """
WITH listed AS (
    SELECT round, 'propose' AS stage, count(*) AS rows FROM tasks WHERE origin = 'proposed' GROUP BY ALL
    UNION ALL SELECT round, 'paraphrase', count(*) FROM tasks WHERE origin = 'paraphrased' GROUP BY ALL
    UNION ALL SELECT round, 'answer', count(*) FROM candidates GROUP BY ALL
    UNION ALL SELECT s.round, 'score', count(*) FROM scores AS s JOIN rounds AS r ON r.round = s.round
        AND s.model_id = r.reward_model GROUP BY ALL
    UNION ALL SELECT round, 'select', count(*) FROM (
        SELECT round FROM selections
        UNION ALL SELECT s.round FROM scores AS s JOIN models AS m USING (model_id) WHERE m.kind = 'member') GROUP BY ALL
    UNION ALL SELECT s.round, 'judge', count(*) FROM scores AS s JOIN models AS m USING (model_id)
        WHERE m.kind = 'judge' GROUP BY ALL
    UNION ALL SELECT round, 'train', 1 FROM rounds WHERE number > 0 AND generator_out IS NOT NULL
    UNION ALL SELECT round, 'evaluate', count(*) FROM (
        SELECT round FROM evaluations UNION ALL SELECT round FROM evaluation_scores) GROUP BY ALL
    UNION ALL SELECT round, stage, count(*) FROM failed_chunks GROUP BY ALL
), counted AS (
    SELECT round, stage, sum(rows)::BIGINT AS rows FROM listed GROUP BY ALL
)
SELECT r.round || ' ' || stage || ': marked with ' || coalesce(s.rows, 0) || ' rows, the tables have ' || coalesce(c.rows, 0)
FROM stages AS s FULL JOIN counted AS c USING (round, stage) JOIN rounds AS r USING (round)
WHERE coalesce(s.rows, 0) <> coalesce(c.rows, 0)
ORDER BY ALL
"""

MARKS = """
WITH wanted AS (
    SELECT r.round, unnest(CASE
        WHEN r.number = 0 THEN ['evaluate']
        WHEN r.policy <> 'best' THEN ['train', 'evaluate']
        ELSE ['propose', 'answer', 'score', 'select', 'train', 'evaluate'] END) AS stage
    FROM rounds AS r WHERE r.status = 'done'
)
SELECT w.round || ' is done, its stage ' || w.stage || ' is not' AS found
FROM wanted AS w LEFT JOIN stages AS s USING (round, stage) WHERE s.finished_at IS NULL
UNION ALL
SELECT round || ' ' || stage || ': finished, or with rows, and no chunk' FROM stages
WHERE chunks = 0 AND (finished_at IS NOT NULL OR rows > 0)
UNION ALL
SELECT s.round || ' ' || s.stage || ': ' || s.chunks || ' chunks, ' || wanted || ' of ' || size || ' tasks each were to be done'
FROM stages AS s JOIN (
    SELECT round, size, ceil(tasks / size)::BIGINT AS wanted
    FROM (SELECT round, (config->>'$.engine.chunk')::BIGINT AS size FROM rounds)
    JOIN (SELECT round, count(*) AS tasks FROM tasks WHERE kept AND origin = 'proposed' GROUP BY round) USING (round)
) AS k USING (round)
WHERE s.stage IN ('answer', 'score') AND s.finished_at IS NOT NULL AND s.chunks <> wanted
UNION ALL
SELECT round || ' is ' || status || ', which no round can be' FROM rounds WHERE status NOT IN ('running', 'done', 'failed')
ORDER BY ALL
"""

LACKING = """
SELECT t.round || ': ' || count(*) || ' kept tasks without their ' || n || ' candidates' AS found
FROM tasks AS t
JOIN (SELECT round, (config->>'$.sampling.n')::BIGINT AS n FROM rounds) AS r USING (round)
JOIN stages AS s ON s.round = t.round AND s.stage = 'answer' AND s.finished_at IS NOT NULL
LEFT JOIN (SELECT round, task_id, count(*) AS there FROM candidates GROUP BY ALL) AS c USING (round, task_id)
ANTI JOIN failed_tasks AS a ON a.round = t.round AND a.task_id = t.task_id AND a.stage = 'answer'
WHERE t.kept AND t.origin = 'proposed' AND c.there IS DISTINCT FROM n GROUP BY t.round, n
UNION ALL
SELECT c.round || ': ' || count(*) || ' candidates without a score of the reward model'
FROM candidates AS c JOIN rounds AS r USING (round)
JOIN stages AS s ON s.round = c.round AND s.stage = 'score' AND s.finished_at IS NOT NULL
ANTI JOIN scores AS x ON x.round = c.round AND x.task_id = c.task_id AND x.candidate = c.candidate
    AND x.model_id = r.reward_model
ANTI JOIN failed_tasks AS a ON a.round = c.round AND a.task_id = c.task_id AND a.stage = 'score'
GROUP BY c.round
UNION ALL
SELECT e.round || ': ' || count(*) || ' held-out outputs without a score of the reward model'
FROM evaluations AS e JOIN rounds AS r USING (round)
JOIN stages AS s ON s.round = e.round AND s.stage = 'evaluate' AND s.finished_at IS NOT NULL
ANTI JOIN evaluation_scores AS x ON x.round = e.round AND x.task_id = e.task_id AND x.sample = e.sample
    AND x.model_id = r.reward_model
GROUP BY e.round
UNION ALL
SELECT r.round || ': ' || count(*) || ' held-out tasks without their ' || samples || ' outputs'
FROM (SELECT *, (config->>'$.evaluation.samples')::BIGINT AS samples FROM rounds) AS r
JOIN stages AS s ON s.round = r.round AND s.stage = 'evaluate' AND s.finished_at IS NOT NULL
JOIN heldout_tasks AS h ON h.heldout = r.identity->>'$."digest.heldout"'
LEFT JOIN (SELECT round, task_id, count(*) AS there FROM evaluations GROUP BY ALL) AS e
    ON e.round = r.round AND e.task_id = h.task_id
WHERE e.there IS DISTINCT FROM samples GROUP BY r.round, samples
ORDER BY ALL
"""

WINNERS = """
SELECT w.round || ': ' || count(*) || ' winners that are no candidate' AS found
FROM selections AS w ANTI JOIN candidates AS c USING (round, task_id, candidate) GROUP BY w.round
UNION ALL
SELECT w.round || ': ' || count(*) || ' winners without a score of the reward model'
FROM selections AS w JOIN rounds AS r USING (round)
ANTI JOIN scores AS s ON s.round = w.round AND s.task_id = w.task_id AND s.candidate = w.candidate
    AND s.model_id = r.reward_model
WHERE w.policy = 'best' GROUP BY w.round
UNION ALL
SELECT w.round || ': ' || count(*) || ' winners that did not end by themselves'
FROM selections AS w JOIN candidates AS c USING (round, task_id, candidate) WHERE c.finish_reason <> 'stop' GROUP BY w.round
UNION ALL
SELECT t.round || ': ' || count(*) || ' tasks with a finished candidate and no winner'
FROM tasks AS t JOIN stages AS s ON s.round = t.round AND s.stage = 'select' AND s.finished_at IS NOT NULL
SEMI JOIN candidates AS c ON c.round = t.round AND c.task_id = t.task_id AND c.finish_reason = 'stop'
ANTI JOIN selections AS w ON w.round = t.round AND w.task_id = t.task_id AND w.policy = 'best'
ANTI JOIN failed_tasks AS a ON a.round = t.round AND a.task_id = t.task_id
WHERE t.kept AND t.origin = 'proposed' GROUP BY t.round
UNION ALL
SELECT round || ': ' || count(*) || ' winners whose reward is not the highest of their task'
FROM (
    SELECT w.round, w.task_id, max(s.score) AS highest, max(s.score) FILTER (s.candidate = w.candidate) AS own
    FROM selections AS w JOIN rounds AS r USING (round)
    JOIN candidates AS c ON c.round = w.round AND c.task_id = w.task_id AND c.finish_reason = 'stop'
    JOIN scores AS s ON s.round = c.round AND s.task_id = c.task_id AND s.candidate = c.candidate
        AND s.model_id = r.reward_model
    WHERE w.policy = 'best' GROUP BY w.round, w.task_id)
WHERE own < highest GROUP BY round
ORDER BY ALL
"""

ORPHANS = """
SELECT round || ': ' || count(*) || ' scores of candidates that are not there' AS found
FROM scores ANTI JOIN candidates USING (round, task_id, candidate) GROUP BY round
UNION ALL
SELECT round || ': ' || count(*) || ' candidates of tasks that were not kept'
FROM candidates AS c ANTI JOIN tasks AS t ON t.round = c.round AND t.task_id = c.task_id AND t.kept GROUP BY round
UNION ALL
SELECT round || ': ' || count(*) || ' held-out scores of outputs that are not there'
FROM evaluation_scores ANTI JOIN evaluations USING (round, task_id, sample) GROUP BY round
UNION ALL
SELECT e.round || ': ' || count(*) || ' held-out outputs of tasks that are not among its held-out tasks'
FROM evaluations AS e JOIN rounds AS r USING (round)
ANTI JOIN heldout_tasks AS h ON h.heldout = r.identity->>'$."digest.heldout"' AND h.task_id = e.task_id GROUP BY e.round
UNION ALL
SELECT round || ': ' || count(*) || ' scores of the model ' || model_id || ', which is not recorded'
FROM (SELECT round, model_id FROM scores UNION ALL SELECT round, model_id FROM evaluation_scores)
ANTI JOIN models USING (model_id) GROUP BY round, model_id
UNION ALL
SELECT count(*) || ' points of a learning curve of ' || model_id || ', which is not recorded'
FROM learning_curves ANTI JOIN models USING (model_id) GROUP BY model_id
ORDER BY ALL
"""

DUPLICATES = " UNION ALL ".join(
    f"SELECT round || ': ' || sum(times - 1)::BIGINT || ' {what} there twice' AS found "
    f"FROM (SELECT round, count(*) AS times FROM {table} {where} GROUP BY round, {key} HAVING times > 1) GROUP BY round"
    for what, table, key, where in (
        ("attempts", "tasks", "origin, attempt", "WHERE origin = 'proposed'"),
        ("kept tasks", "tasks", "task_id", "WHERE kept"),
        ("candidates", "candidates", "task_id, candidate", ""),
        ("scores", "scores", "task_id, candidate, model_id", ""),
        ("picks", "selections", "task_id, policy", ""),
        ("held-out outputs", "evaluations", "task_id, sample", ""),
        ("held-out scores", "evaluation_scores", "task_id, sample, model_id", ""),
        ("figures", "metrics", "name", ""),
        ("verdicts", "verdicts", "base", ""),
    )
)

NAMES = f"""
SELECT round || ' names the ' || what || ' ' || model_id || ', which is not recorded' AS found
FROM (
    SELECT round, 'generator' AS what, generator_in AS model_id FROM rounds
    UNION ALL SELECT round, 'generator', generator_out FROM rounds WHERE generator_out IS DISTINCT FROM generator_in
    UNION ALL SELECT round, 'reward model', reward_model FROM rounds
    UNION ALL SELECT round, 'judge', judge FROM rounds)
ANTI JOIN models USING (model_id) WHERE model_id IS NOT NULL
UNION ALL
SELECT model_id || ' names the member ' || member || ', which is not recorded'
FROM (SELECT model_id, unnest((facts->'$.members')::VARCHAR[]) AS member FROM models WHERE kind = 'reward') AS m
ANTI JOIN models AS known ON known.model_id = m.member
UNION ALL
SELECT round || ' is done and names no trained generator' FROM rounds WHERE status = 'done' AND generator_out IS NULL
UNION ALL
SELECT r.round || ' comes after ' || r.parent || ', which is not there'
FROM rounds AS r ANTI JOIN rounds AS p ON p.round = r.parent WHERE r.parent IS NOT NULL
UNION ALL
SELECT round || ' has no parent and is not r0' FROM rounds WHERE parent IS NULL AND number > 0
UNION ALL
SELECT round || ': its held-out tasks are not there' FROM rounds
ANTI JOIN heldout_tasks ON heldout = identity->>'$."digest.heldout"'
UNION ALL
SELECT round || ': its seeds are not there' FROM rounds ANTI JOIN seed_tasks ON seeds = identity->>'$."digest.seeds"'
WHERE started_at >= (SELECT applied_at FROM migrations WHERE version = {SEED_TASKS_SINCE})
ORDER BY ALL
"""

FIGURES = """
SELECT r.round || ' is done and has no figure ' || name AS found
FROM (SELECT round, status, unnest([reward_model, judge]) AS model_id, unnest(['heldout.reward', 'heldout.judge']) AS name
    FROM rounds) AS r
SEMI JOIN evaluation_scores AS s ON s.round = r.round AND s.model_id = r.model_id AND NOT isnan(s.score)
ANTI JOIN metrics AS m ON m.round = r.round AND m.name = r.name
WHERE r.status = 'done'
ORDER BY ALL
"""

VERDICTS = """
SELECT 'verdict on ' || v.round || ' against ' || v.base || ': there is no ' || name AS found
FROM (SELECT *, unnest(list_distinct([base, round, evidence->>'$.base', evidence->>'$.round'])) AS name FROM verdicts) AS v
ANTI JOIN rounds AS r ON r.round = v.name WHERE name IS NOT NULL
UNION ALL
SELECT 'verdict on ' || round || ' against ' || base || ': its evidence is about ' || (evidence->>'$.round') || ' against '
    || (evidence->>'$.base')
FROM verdicts WHERE evidence->>'$.round' <> round OR evidence->>'$.base' <> base
UNION ALL
SELECT 'verdict on ' || round || ' against ' || base || ': ' || verdict || ', its evidence says ' || (evidence->>'$.verdict')
FROM verdicts WHERE evidence->>'$.verdict' <> verdict
UNION ALL
SELECT r.round || ' is done and has no verdict against ' || r.parent || ', with which it can be compared'
FROM rounds AS r JOIN rounds AS p ON p.round = r.parent AND p.reward_model = r.reward_model AND p.judge = r.judge
    AND p.identity->>'$."digest.heldout"' = r.identity->>'$."digest.heldout"'
    AND p.config->>'$.evaluation.samples' = r.config->>'$.evaluation.samples'
SEMI JOIN evaluation_scores AS s ON s.round = r.round AND s.model_id = r.judge AND NOT isnan(s.score)
ANTI JOIN verdicts AS v ON v.round = r.round AND v.base = r.parent
WHERE r.status = 'done' AND p.status = 'done'
ORDER BY ALL
"""

CHECKS = (
    Check(name="counts", sql=COUNTS, remedy=UNFIT),
    Check(name="stage marks", sql=MARKS, remedy=UNFIT),
    Check(name="rows that lack", sql=LACKING, remedy=UNFIT),
    Check(name="winners", sql=WINNERS, remedy=UNFIT),
    Check(name="orphans", sql=ORPHANS, remedy=UNFIT),
    *(
        Check(
            name="rows of no round",
            sql=f"SELECT count(*) || ' rows of {table} are of ' || round || ', which is not there' "
            f"FROM {table} ANTI JOIN rounds USING (round) GROUP BY round ORDER BY ALL",
            remedy=DELETE.format(table),
        )
        for table in OF_ROUNDS[1:-1]
    ),
    Check(name="duplicates", sql=DUPLICATES, remedy=UNFIT),
    Check(name=NAMED, sql=NAMES, remedy=UNFIT),
    Check(name="figures", sql=FIGURES, remedy=UNFIT),
    Check(
        name="verdicts",
        sql=VERDICTS,
        remedy=f"{BACKUP}; `flywheel compare` tells a verdict anew, but records none: that of a row that is deleted is lost",
    ),
)
