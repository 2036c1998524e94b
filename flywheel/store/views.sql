CREATE OR REPLACE VIEW generations AS
SELECT
    c.round, c.task_id, c.candidate, t.instruction, t.input, t.constraints, c.output, s.score AS reward,
    w.candidate IS NOT NULL AS won, c.finish_reason, c.tokens, c.logprob, t.attempt
FROM candidates AS c
JOIN rounds AS r USING (round)
JOIN tasks AS t ON t.round = c.round AND t.task_id = c.task_id AND t.kept AND t.origin = 'proposed'
LEFT JOIN scores AS s
    ON s.round = c.round AND s.task_id = c.task_id AND s.candidate = c.candidate AND s.model_id = r.reward_model
LEFT JOIN selections AS w
    ON w.round = c.round AND w.task_id = c.task_id AND w.candidate = c.candidate AND w.policy = 'best';
COMMENT ON VIEW generations IS 'Every candidate with its task and reward.';
COMMENT ON COLUMN generations.round IS 'Round.';
COMMENT ON COLUMN generations.task_id IS 'Task.';
COMMENT ON COLUMN generations.candidate IS 'Number of the candidate in its task, from 0.';
COMMENT ON COLUMN generations.instruction IS 'What to do.';
COMMENT ON COLUMN generations.input IS 'What to do it with.';
COMMENT ON COLUMN generations.constraints IS 'What the output must satisfy; the word None for no constraints.';
COMMENT ON COLUMN generations.output IS 'Generated text.';
COMMENT ON COLUMN generations.reward IS 'Score by the merged reward model.';
COMMENT ON COLUMN generations.won IS 'Whether the candidate is the winner of its task.';
COMMENT ON COLUMN generations.finish_reason IS 'stop, length or prompt-too-long.';
COMMENT ON COLUMN generations.tokens IS 'Number of generated tokens.';
COMMENT ON COLUMN generations.logprob IS 'Mean log-probability per token, if the engine reports it.';
COMMENT ON COLUMN generations.attempt IS 'Number of the attempt that proposed the task.';

CREATE OR REPLACE VIEW dataset AS
SELECT g.round, g.task_id, g.instruction, g.input, g.constraints, g.output, g.reward, w.margin, g.candidate, g.tokens
FROM generations AS g
JOIN selections AS w ON w.round = g.round AND w.task_id = g.task_id AND w.candidate = g.candidate AND w.policy = 'best';
COMMENT ON VIEW dataset IS 'The winners as text, ready for training.';
COMMENT ON COLUMN dataset.round IS 'Round.';
COMMENT ON COLUMN dataset.task_id IS 'Task.';
COMMENT ON COLUMN dataset.instruction IS 'What to do.';
COMMENT ON COLUMN dataset.input IS 'What to do it with.';
COMMENT ON COLUMN dataset.constraints IS 'What the output must satisfy; the word None for no constraints.';
COMMENT ON COLUMN dataset.output IS 'Output of the winner.';
COMMENT ON COLUMN dataset.reward IS 'Its score by the merged reward model.';
COMMENT ON COLUMN dataset.margin IS 'Its reward minus that of the best other finished candidate.';
COMMENT ON COLUMN dataset.candidate IS 'Number of the candidate in its task.';
COMMENT ON COLUMN dataset.tokens IS 'Number of generated tokens.';

CREATE OR REPLACE VIEW expanded AS
SELECT d.round, d.task_id, d.instruction, d.input, d.constraints, d.output, d.reward, t.origin, d.task_id AS winner, t.attempt
FROM dataset AS d
JOIN tasks AS t ON t.round = d.round AND t.task_id = d.task_id AND t.kept AND t.origin = 'proposed'
UNION ALL
SELECT p.round, p.task_id, p.instruction, p.input, p.constraints, d.output, d.reward, p.origin, d.task_id AS winner, p.attempt
FROM tasks AS p
JOIN dataset AS d ON d.round = p.round AND d.task_id = p.parent_task
WHERE p.kept AND p.origin = 'paraphrased';
COMMENT ON VIEW expanded IS 'The winners and their paraphrases; a paraphrase has the input, output and reward of its winner.';
COMMENT ON COLUMN expanded.round IS 'Round.';
COMMENT ON COLUMN expanded.task_id IS 'Task.';
COMMENT ON COLUMN expanded.instruction IS 'What to do.';
COMMENT ON COLUMN expanded.input IS 'What to do it with.';
COMMENT ON COLUMN expanded.constraints IS 'What the output must satisfy; the word None for no constraints.';
COMMENT ON COLUMN expanded.output IS 'Output of the winner.';
COMMENT ON COLUMN expanded.reward IS 'Score of the winner.';
COMMENT ON COLUMN expanded.origin IS 'proposed or paraphrased.';
COMMENT ON COLUMN expanded.winner IS 'Task whose winner the output is.';
COMMENT ON COLUMN expanded.attempt IS 'Number of the attempt among those of its origin.';

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
COMMENT ON VIEW rounds_summary IS 'One row per round, including controls.';
COMMENT ON COLUMN rounds_summary.round IS 'Round.';
COMMENT ON COLUMN rounds_summary.parent IS 'Round whose generator this round started from.';
COMMENT ON COLUMN rounds_summary.policy IS 'Selection policy whose candidates the generator was trained on.';
COMMENT ON COLUMN rounds_summary.status IS 'running, done or failed.';
COMMENT ON COLUMN rounds_summary.proposed IS 'Number of proposed tasks.';
COMMENT ON COLUMN rounds_summary.kept IS 'Number of kept tasks.';
COMMENT ON COLUMN rounds_summary.candidates IS 'Number of candidates.';
COMMENT ON COLUMN rounds_summary.winners IS 'Number of winners.';
COMMENT ON COLUMN rounds_summary.judge IS 'Mean score of held-out outputs by the judge.';
COMMENT ON COLUMN rounds_summary.reward IS 'Mean score of held-out outputs by the reward model.';
COMMENT ON COLUMN rounds_summary.verdict IS 'Verdict against the parent.';
COMMENT ON COLUMN rounds_summary.seconds IS 'Working time of all stages.';

CREATE OR REPLACE VIEW best_round AS
SELECT r.round, m.value AS judge, m.low, m.high
FROM rounds AS r JOIN metrics AS m ON m.round = r.round AND m.name = 'heldout.judge'
WHERE r.status = 'done' AND r.policy = 'best'
ORDER BY m.value DESC, r.number
LIMIT 1;
COMMENT ON VIEW best_round IS 'The round whose generator the judge scores highest on held-out tasks; the earlier of two equal ones.';
COMMENT ON COLUMN best_round.round IS 'Round.';
COMMENT ON COLUMN best_round.judge IS 'Mean score of held-out outputs by the judge.';
COMMENT ON COLUMN best_round.low IS 'Lower end of its confidence interval.';
COMMENT ON COLUMN best_round.high IS 'Upper end of its confidence interval.';

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
COMMENT ON VIEW policies IS 'What each selection policy selects among the same candidates: best-of-N and the controls.';
COMMENT ON COLUMN policies.round IS 'Round.';
COMMENT ON COLUMN policies.policy IS 'best, random, max-logprob, longest or first.';
COMMENT ON COLUMN policies.tasks IS 'Number of tasks.';
COMMENT ON COLUMN policies.reward IS 'Mean reward of the selected candidates.';
COMMENT ON COLUMN policies.tokens IS 'Mean number of their tokens.';
COMMENT ON COLUMN policies.judge IS 'Mean score by the judge of those that it scored.';
COMMENT ON COLUMN policies.judged IS 'Number of selected candidates that the judge scored.';

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
COMMENT ON VIEW best_of_n_curve IS 'Expected reward and judge score of the best of n candidates, for each n up to the number sampled.';
COMMENT ON COLUMN best_of_n_curve.round IS 'Round.';
COMMENT ON COLUMN best_of_n_curve.n IS 'Number of candidates to select from.';
COMMENT ON COLUMN best_of_n_curve.reward IS 'Expected reward of the winner, mean over tasks.';
COMMENT ON COLUMN best_of_n_curve.tasks IS 'Number of tasks.';
COMMENT ON COLUMN best_of_n_curve.judge IS 'Expected judge score of the winner, mean over the tasks that the judge scored.';
COMMENT ON COLUMN best_of_n_curve.judged IS 'Number of tasks that the judge scored.';

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
COMMENT ON VIEW task_diversity IS 'Diversity of the kept tasks of each round; compare rounds with the same sample size.';
COMMENT ON COLUMN task_diversity.round IS 'Round.';
COMMENT ON COLUMN task_diversity.sample IS 'Number of sampled tasks.';
COMMENT ON COLUMN task_diversity.distinct_1 IS 'Share of distinct words.';
COMMENT ON COLUMN task_diversity.distinct_2 IS 'Share of distinct word pairs.';
COMMENT ON COLUMN task_diversity.compression_ratio IS 'Size of the text divided by its compressed size; lower is more diverse.';
COMMENT ON COLUMN task_diversity.self_bleu IS 'BLEU of each task against the others; lower is more diverse.';
COMMENT ON COLUMN task_diversity.novel IS 'Share of tasks unlike all earlier ones.';
COMMENT ON COLUMN task_diversity.kinds IS 'Number of kinds of task.';

CREATE OR REPLACE VIEW failed_tasks AS
SELECT f.round, f.stage, f.chunk, t.task_id, f.error
FROM failed_chunks AS f
JOIN rounds AS r USING (round)
JOIN (
    SELECT round, task_id, row_number() OVER (PARTITION BY round ORDER BY attempt) - 1 AS position
    FROM tasks WHERE kept AND origin = 'proposed'
) AS t ON t.round = f.round AND t.position // (r.config->>'$.engine.chunk')::BIGINT = f.chunk
ORDER BY ALL;
COMMENT ON VIEW failed_tasks IS 'The tasks of failed chunks: without candidates if the stage is answer, without scores if it is score.';
COMMENT ON COLUMN failed_tasks.round IS 'Round.';
COMMENT ON COLUMN failed_tasks.stage IS 'answer or score.';
COMMENT ON COLUMN failed_tasks.chunk IS 'Number of the chunk in its stage.';
COMMENT ON COLUMN failed_tasks.task_id IS 'Task.';
COMMENT ON COLUMN failed_tasks.error IS 'Error of the last attempt.';
