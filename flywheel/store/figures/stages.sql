-- Work of each stage.
SELECT
    s.round, s.stage, s.rows, nullif(s.prompt_tokens, 0) AS prompt_tokens, nullif(s.tokens, 0) AS tokens, s.seconds,
    s.tokens / nullif(s.seconds, 0) AS speed, nullif(s.cost, 0) AS cost,
    CASE WHEN s.finished_at IS NULL THEN 'not finished' END AS state
FROM stages AS s
JOIN rounds AS r USING (round)
ORDER BY r.number, r.policy <> 'best', r.round, list_position($stages, s.stage);
