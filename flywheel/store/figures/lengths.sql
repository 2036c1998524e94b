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
