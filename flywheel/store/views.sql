CREATE OR REPLACE VIEW generations AS
SELECT
    c.round, c.task_id, c.candidate, t.instruction, t.input, t.constraints, c.output, s.score AS reward,
    best.candidate IS NOT NULL AS won, c.finish_reason, c.tokens, c.logprob, t.attempt
FROM candidates AS c
JOIN rounds AS r USING (round)
JOIN tasks AS t ON t.round = c.round AND t.task_id = c.task_id AND t.kept AND t.origin = 'proposed'
LEFT JOIN scores AS s
    ON s.round = c.round AND s.task_id = c.task_id AND s.candidate = c.candidate AND s.model_id = r.reward_model
LEFT JOIN selections AS best
    ON best.round = c.round AND best.task_id = c.task_id AND best.candidate = c.candidate AND best.policy = 'best';
COMMENT ON VIEW generations IS 'Every candidate with its task and reward, wide.';

CREATE OR REPLACE VIEW dataset AS
SELECT g.round, g.task_id, g.instruction, g.input, g.constraints, g.output, g.reward, b.margin, g.candidate, g.tokens
FROM generations AS g
JOIN selections AS b ON b.round = g.round AND b.task_id = g.task_id AND b.candidate = g.candidate AND b.policy = 'best';
COMMENT ON VIEW dataset IS 'The winners as text, ready to train on.';

CREATE OR REPLACE VIEW expanded AS
SELECT d.round, d.task_id, d.instruction, d.input, d.constraints, d.output, d.reward, t.origin, d.task_id AS winner, t.attempt
FROM dataset AS d
JOIN tasks AS t ON t.round = d.round AND t.task_id = d.task_id AND t.kept AND t.origin = 'proposed'
UNION ALL
SELECT p.round, p.task_id, p.instruction, p.input, p.constraints, d.output, d.reward, p.origin, d.task_id AS winner, p.attempt
FROM tasks AS p
JOIN dataset AS d ON d.round = p.round AND d.task_id = p.parent_task
WHERE p.kept AND p.origin = 'paraphrased';
COMMENT ON VIEW expanded IS 'The winners and their paraphrases, which have the input, output and reward of the winner they were made from.';

CREATE OR REPLACE VIEW rounds_summary AS
SELECT
    r.round, r.parent, r.policy, r.status,
    (SELECT count(*) FROM tasks AS t WHERE t.round = r.round AND t.origin = 'proposed') AS proposed,
    (SELECT count(*) FROM tasks AS t WHERE t.round = r.round AND t.origin = 'proposed' AND t.kept) AS kept,
    (SELECT count(*) FROM candidates AS c WHERE c.round = r.round) AS candidates,
    (SELECT count(*) FROM selections AS s WHERE s.round = r.round AND s.policy = 'best') AS winners,
    (SELECT m.value FROM metrics AS m WHERE m.round = r.round AND m.name = 'heldout.judge') AS judge,
    (SELECT m.value FROM metrics AS m WHERE m.round = r.round AND m.name = 'heldout.reward') AS reward,
    (SELECT v.verdict FROM verdicts AS v WHERE v.round = r.round AND v.base = r.parent) AS verdict,
    (SELECT sum(s.seconds) FROM stages AS s WHERE s.round = r.round) AS seconds
FROM rounds AS r
ORDER BY r.number, r.policy <> 'best', r.round;
COMMENT ON VIEW rounds_summary IS 'One line a round, controls too: counts, held-out figures, verdict against the parent.';

CREATE OR REPLACE VIEW best_round AS
SELECT r.round, m.value AS judge, m.low, m.high
FROM rounds AS r JOIN metrics AS m ON m.round = r.round AND m.name = 'heldout.judge'
WHERE r.status = 'done' AND r.policy = 'best'
ORDER BY m.value DESC, r.number
LIMIT 1;
COMMENT ON VIEW best_round IS 'The turn of the wheel whose generator the judge likes best on held-out tasks; the earlier of two that are equal.';

CREATE OR REPLACE VIEW policies AS
SELECT
    s.round, s.policy, count(*) AS tasks, avg(g.reward) AS reward, avg(g.tokens) AS tokens,
    avg(j.score) AS judge, count(j.score) AS judged
FROM selections AS s
JOIN generations AS g USING (round, task_id, candidate)
JOIN rounds AS r USING (round)
LEFT JOIN scores AS j
    ON j.round = s.round AND j.task_id = s.task_id AND j.candidate = s.candidate AND j.model_id = r.judge
GROUP BY s.round, s.policy
ORDER BY s.round, reward DESC;
COMMENT ON VIEW policies IS 'What each way of picking gives: best-of-N and its controls, by reward and, on the tasks it was asked about, by the judge.';

CREATE OR REPLACE VIEW best_of_n_curve AS
WITH ranked AS (
    SELECT
        g.round, g.task_id, g.reward, j.score AS judge,
        row_number() OVER of_task AS rank,
        count(*) OVER (PARTITION BY g.round, g.task_id) AS total
    FROM generations AS g
    JOIN rounds AS r USING (round)
    LEFT JOIN scores AS j
        ON j.round = g.round AND j.task_id = g.task_id AND j.candidate = g.candidate AND j.model_id = r.judge
    WHERE g.reward IS NOT NULL
    WINDOW of_task AS (PARTITION BY g.round, g.task_id ORDER BY g.finish_reason = 'stop', g.reward, g.candidate)
),
expected AS (
    SELECT
        k.n, r.round, r.task_id,
        sum(r.reward * exp(
            lgamma(r.rank) - lgamma(r.rank - k.n + 1) - lgamma(r.total + 1) + lgamma(r.total - k.n + 1) + ln(k.n)
        )) AS reward,
        sum(r.judge * exp(
            lgamma(r.rank) - lgamma(r.rank - k.n + 1) - lgamma(r.total + 1) + lgamma(r.total - k.n + 1) + ln(k.n)
        )) AS judge
    FROM ranked AS r
    JOIN (SELECT unnest(generate_series(1, 256)) AS n) AS k ON k.n <= r.total AND r.rank >= k.n
    GROUP BY ALL
)
SELECT round, n, avg(reward) AS reward, count(*) AS tasks, avg(judge) AS judge, count(judge) AS judged
FROM expected GROUP BY round, n ORDER BY round, n;
COMMENT ON VIEW best_of_n_curve IS 'Expected reward of the best of n candidates, for each n up to the number sampled, averaged over tasks; and what the judge says of them where it was asked.';

CREATE OR REPLACE VIEW task_diversity AS
SELECT
    r.round,
    max(m.value) FILTER (m.name = 'tasks.sample') AS sample,
    max(m.value) FILTER (m.name = 'tasks.distinct_1') AS distinct_1,
    max(m.value) FILTER (m.name = 'tasks.distinct_2') AS distinct_2,
    max(m.value) FILTER (m.name = 'tasks.compression_ratio') AS compression_ratio,
    max(m.value) FILTER (m.name = 'tasks.self_bleu') AS self_bleu,
    max(m.value) FILTER (m.name = 'tasks.novel') AS novel,
    max(m.value) FILTER (m.name = 'tasks.kinds') AS kinds
FROM metrics AS m
JOIN rounds AS r USING (round)
WHERE m.name LIKE 'tasks.%'
GROUP BY r.round, r.number
ORDER BY r.number;
COMMENT ON VIEW task_diversity IS 'How unlike each other the kept tasks of each round are: compare the rounds of one sample size.';

CREATE OR REPLACE VIEW failed_tasks AS
SELECT a.round, a.stage, a.chunk, t.task_id, a.error
FROM failed_chunks AS a
JOIN rounds AS r USING (round)
JOIN (
    SELECT round, task_id, row_number() OVER (PARTITION BY round ORDER BY attempt) - 1 AS place
    FROM tasks WHERE kept AND origin = 'proposed'
) AS t ON t.round = a.round AND t.place // (r.config->>'$.engine.chunk')::BIGINT = a.chunk
ORDER BY ALL;
COMMENT ON VIEW failed_tasks IS 'The tasks of the chunks that were set aside: without candidates where the stage is answer, without scores where it is score.';
