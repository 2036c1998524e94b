-- Tasks of the HTML report as JSON. `report_rows.tasks` fills in what is in braces: texts that are cut, numbers that are rounded.
WITH outputs AS (
    SELECT round, task_id, sum(strlen(left(output, $longest)) + 45) AS size FROM candidates GROUP BY round, task_id
),
places AS (
    SELECT
        t.round, t.task_id, r.number, row_number() OVER (PARTITION BY t.round ORDER BY t.task_id) AS place,
        o.size + strlen(left(t.instruction, $longest)) + strlen(left(t.input, $longest)) + strlen(t.constraints) + 140 AS size
    FROM tasks AS t
    JOIN rounds AS r USING (round)
    JOIN outputs AS o USING (round, task_id)
    WHERE t.kept AND t.origin = 'proposed'
),
drawn AS (
    SELECT * FROM places
    WHERE place <= coalesce($tasks, place)
    QUALIFY $tasks IS NOT NULL OR sum(size) OVER (ORDER BY place, number) <= $size
),
scored AS (
    SELECT
        s.round, s.task_id, s.candidate, max(s.score) FILTER (s.model_id = r.reward_model) AS reward,
        map_from_entries(list((s.model_id, s.score))) AS by_model
    FROM scores AS s
    JOIN rounds AS r USING (round)
    SEMI JOIN drawn USING (round, task_id)
    GROUP BY s.round, s.task_id, s.candidate
),
answered AS (
    SELECT c.round, c.task_id, list(json_array(
        c.candidate, {output}, c.finish_reason, c.tokens, {logprob}, {reward}, {judges}, {members}
    ) ORDER BY c.candidate) AS candidates
    FROM candidates AS c
    LEFT JOIN scored AS s USING (round, task_id, candidate)
    SEMI JOIN drawn USING (round, task_id)
    GROUP BY c.round, c.task_id
),
selected AS (
    SELECT
        round, task_id, map_from_entries(list((policy, candidate))) AS by_policy,
        any_value(margin) FILTER (policy = 'best') AS margin
    FROM selections
    SEMI JOIN drawn USING (round, task_id)
    GROUP BY round, task_id
),
paraphrased AS (
    SELECT p.round, p.parent_task AS task_id, list(json_array({paraphrase}, p.reason) ORDER BY p.attempt) AS paraphrases
    FROM tasks AS p
    SEMI JOIN drawn AS d ON d.round = p.round AND d.task_id = p.parent_task
    WHERE p.origin = 'paraphrased'
    GROUP BY p.round, p.parent_task
)
SELECT d.round, json_array(
    d.round, d.task_id, t.attempt, {instruction}, {input}, {constraints}, t.kind, t.demos, {margin},
    [p.by_policy[policy] FOR policy IN $policies], a.candidates, coalesce(f.paraphrases, []::JSON[])
)
FROM drawn AS d
JOIN tasks AS t ON t.round = d.round AND t.task_id = d.task_id AND t.kept AND t.origin = 'proposed'
JOIN answered AS a ON a.round = d.round AND a.task_id = d.task_id
LEFT JOIN selected AS p ON p.round = d.round AND p.task_id = d.task_id
LEFT JOIN paraphrased AS f ON f.round = d.round AND f.task_id = d.task_id
ORDER BY d.place, d.number
