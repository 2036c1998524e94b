-- Stages whose rows are not those that they committed, and stages that a finished round never finished.
WITH counted AS (
    SELECT round, stage, count(*) AS rows FROM (
        SELECT round, CASE origin WHEN 'proposed' THEN 'propose' ELSE 'paraphrase' END AS stage FROM tasks
        UNION ALL SELECT round, 'answer' FROM candidates
        UNION ALL SELECT round, CASE m.kind WHEN 'reward' THEN 'score' WHEN 'member' THEN 'select' ELSE 'judge' END
            FROM scores JOIN models AS m USING (model_id)
        UNION ALL SELECT round, 'select' FROM selections
        UNION ALL SELECT round, 'train' FROM rounds WHERE number > 0 AND generator_out IS NOT NULL
        UNION ALL SELECT round, 'evaluate' FROM evaluations
        UNION ALL SELECT round, 'evaluate' FROM evaluation_scores
        UNION ALL SELECT round, stage FROM failed_chunks
    ) GROUP BY ALL
), expected AS (
    SELECT round, unnest(CASE
        WHEN number = 0 THEN ['evaluate']
        WHEN policy <> 'best' THEN ['train', 'evaluate']
        ELSE ['propose', 'answer', 'score', 'select', 'train', 'evaluate'] END) AS stage
    FROM rounds WHERE status = 'done'
)
SELECT round || ' ' || stage || ': ' || coalesce(s.rows, 0) || ' rows committed, ' || coalesce(c.rows, 0) || ' found'
FROM stages AS s FULL JOIN counted AS c USING (round, stage) SEMI JOIN rounds USING (round)
WHERE coalesce(s.rows, 0) <> coalesce(c.rows, 0)
UNION ALL
SELECT round || ' ' || stage || ': not finished, although the round is done'
FROM expected LEFT JOIN stages AS s USING (round, stage) WHERE s.finished_at IS NULL
