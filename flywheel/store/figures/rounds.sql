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
