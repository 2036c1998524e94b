-- Queries of the HTML report by name; `report_rows.rows` runs one of them.

-- name: rounds
-- Rounds and controls, with the first stage that is not finished.
SELECT
    r.round, r.number, r.parent, r.policy, r.status, r.config ->> '$.generator' AS generator, r.reward_model,
    j.name AS judge, coalesce((r.config ->> '$.sampling.n')::INTEGER, 0) AS n, s.kept, s.candidates, s.winners,
    (SELECT arg_min(t.stage, list_position($stages, t.stage)) FROM stages AS t
     WHERE t.round = r.round AND t.finished_at IS NULL) AS unfinished
FROM rounds AS r
JOIN rounds_summary AS s USING (round)
LEFT JOIN models AS j ON j.model_id = r.judge
ORDER BY r.number, r.policy <> 'best', r.round;

-- name: measures
SELECT m.round, r.number, r.policy, m.name, m.value, m.low, m.high
FROM metrics AS m JOIN rounds AS r USING (round)
ORDER BY r.number, r.policy <> 'best', r.round, m.name;

-- name: policies
SELECT p.round, r.number, p.policy, p.tasks, p.reward, p.tokens, NULL AS judge, NULL AS value
FROM policies AS p JOIN rounds AS r USING (round)
ORDER BY r.number, p.policy <> 'best', p.reward DESC;

-- name: lengths
-- Tokens of all candidates and of the winners: mean, 10th and 90th percentile; finish rate in percent.
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
ORDER BY r.number, o.candidates;

-- name: drops
-- Attempts at a task by result, with the first of each.
SELECT
    t.round, t.origin, coalesce(t.reason, 'kept') AS reason, count(*) AS attempts,
    100 * count(*) / sum(count(*)) OVER (PARTITION BY t.round, t.origin) AS share,
    coalesce(arg_min(left(t.raw, 300), t.attempt), '') AS example
FROM tasks AS t
JOIN rounds AS r USING (round)
GROUP BY t.round, r.number, t.origin, t.reason
ORDER BY r.number, t.origin DESC, bool_or(t.kept) DESC, attempts DESC, reason;

-- name: stages
SELECT
    s.round, s.stage, s.rows, nullif(s.prompt_tokens, 0) AS prompt_tokens, nullif(s.tokens, 0) AS tokens, s.seconds,
    s.tokens / nullif(s.seconds, 0) AS speed, nullif(s.cost, 0) AS cost,
    CASE WHEN s.finished_at IS NULL THEN 'not finished' ELSE '' END AS state
FROM stages AS s
JOIN rounds AS r USING (round)
ORDER BY r.number, r.policy <> 'best', r.round, list_position($stages, s.stage);

-- name: totals
SELECT
    s.round, coalesce(sum(s.seconds), 0) AS seconds, nullif(sum(s.prompt_tokens), 0) AS prompt_tokens,
    nullif(sum(s.tokens), 0) AS tokens, nullif(sum(s.cost), 0) AS cost
FROM stages AS s
JOIN rounds AS r USING (round)
GROUP BY s.round, r.number, r.policy
ORDER BY r.number, r.policy <> 'best', s.round;

-- name: models
-- Reward models that select, with their facts as JSON.
SELECT m.model_id, m.facts, list(r.round ORDER BY r.number) AS rounds
FROM rounds AS r JOIN models AS m ON m.model_id = r.reward_model
WHERE r.policy = 'best' GROUP BY ALL ORDER BY min(r.number);

-- name: members
SELECT model_id, name, facts FROM models WHERE kind = 'member';

-- name: answered
-- How many tasks of each round have candidates.
SELECT r.round, count(DISTINCT c.task_id) AS tasks FROM rounds AS r JOIN candidates AS c USING (round)
GROUP BY r.round, r.number ORDER BY r.number;

-- name: scorers
-- The members and judges that scored candidates; the judge that decides comes first.
SELECT kind, model_id, name FROM models
WHERE kind IN ('member', 'judge') AND model_id IN (SELECT DISTINCT model_id FROM scores)
ORDER BY model_id NOT IN (SELECT judge FROM rounds), created_at, name;

-- name: demos
-- The instruction of seeds and tasks, cut at $longest characters, and where each is from: seed or a round.
SELECT task_id, left(arg_min(instruction, number), $longest) AS instruction, arg_min(origin, number) AS origin FROM (
    SELECT task_id, instruction, -1 AS number, 'seed' AS origin FROM seed_tasks
    UNION ALL
    SELECT t.task_id, t.instruction, r.number, t.round FROM tasks AS t JOIN rounds AS r USING (round) WHERE t.kept
) WHERE list_contains($ids, task_id) GROUP BY task_id;
