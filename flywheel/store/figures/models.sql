-- Reward models that select, with their facts as JSON.
SELECT m.model_id, m.facts, list(r.round ORDER BY r.number) AS rounds
FROM rounds AS r JOIN models AS m ON m.model_id = r.reward_model
WHERE r.policy = 'best' GROUP BY ALL ORDER BY min(r.number);
