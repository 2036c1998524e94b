-- Selected candidates that are cut off, and winners whose reward is not the highest of their task.
SELECT round || ': ' || count(*) || ' selected candidates are not finished'
FROM selections JOIN candidates USING (round, task_id, candidate) WHERE finish_reason <> 'stop' GROUP BY round
UNION ALL
SELECT round || ': ' || count(*) || ' winners do not have the highest reward of their task'
FROM (
    SELECT w.round, w.task_id, max(s.score) AS highest, max(s.score) FILTER (s.candidate = w.candidate) AS reward
    FROM selections AS w JOIN rounds AS r USING (round)
    JOIN candidates AS c ON c.round = w.round AND c.task_id = w.task_id AND c.finish_reason = 'stop'
    JOIN scores AS s ON s.round = c.round AND s.task_id = c.task_id AND s.candidate = c.candidate
        AND s.model_id = r.reward_model
    WHERE w.policy = 'best' GROUP BY w.round, w.task_id)
WHERE reward < highest GROUP BY round
