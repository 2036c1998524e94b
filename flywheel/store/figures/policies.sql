-- What each selection policy selects, for a store whose candidates no judge scored.
SELECT p.round, r.number, p.policy, p.tasks, p.reward, p.tokens, NULL AS judge, NULL AS value
FROM policies AS p JOIN rounds AS r USING (round)
ORDER BY r.number, p.policy <> 'best', p.reward DESC;
