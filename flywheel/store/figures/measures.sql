-- Metrics of all rounds and controls.
SELECT m.round, r.number, r.policy, m.name, m.value, m.low, m.high
FROM metrics AS m JOIN rounds AS r USING (round)
ORDER BY r.number, r.policy <> 'best', r.round, m.name;
