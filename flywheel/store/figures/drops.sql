-- Attempts at a task by result, with the first of each.
SELECT
    t.round, t.origin, coalesce(t.reason, 'kept') AS reason, count(*) AS attempts,
    100 * count(*) / sum(count(*)) OVER (PARTITION BY t.round, t.origin) AS share,
    coalesce(arg_min(left(t.raw, 300), t.attempt), '') AS example
FROM tasks AS t
JOIN rounds AS r USING (round)
GROUP BY t.round, r.number, t.origin, t.reason
ORDER BY r.number, t.origin DESC, bool_or(t.kept) DESC, attempts DESC, reason;
