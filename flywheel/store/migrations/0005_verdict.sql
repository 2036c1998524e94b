ALTER TABLE rounds ADD COLUMN policy VARCHAR DEFAULT 'best';
COMMENT ON COLUMN rounds.policy IS 'Whose picks the generator was trained on: best, or that of a control such as random, which is no turn of the wheel.';
COMMENT ON COLUMN rounds.round IS 'The name: r0, r1, r2 …; a control is called after the round beside it, such as r1-random.';
COMMENT ON COLUMN rounds.number IS 'The number in the name, to order by.';
COMMENT ON COLUMN rounds.judge IS 'Model id of the judge that decides; no judge selects.';

ALTER TABLE heldout_tasks ADD COLUMN kind VARCHAR;
COMMENT ON COLUMN heldout_tasks.kind IS 'Kind of task, as the file says.';
ALTER TABLE heldout_tasks ADD COLUMN reference VARCHAR;
COMMENT ON COLUMN heldout_tasks.reference IS 'An answer that is known to be good; NULL where there is none.';

COMMENT ON TABLE scores IS 'What a model gave a candidate: the merged reward model every candidate, each member the winners, judges the candidates of some tasks.';
COMMENT ON COLUMN scores.score IS 'Of a reward model in standard deviations over its reference set, of a judge its own number; higher is better.';
COMMENT ON COLUMN stages.stage IS 'propose, answer, score, select, judge, paraphrase, train or evaluate.';
COMMENT ON COLUMN metrics.name IS 'heldout.judge, heldout.reward, heldout.perplexity and more of the trained generator; tasks.distinct_2, tasks.kind.write and others for the kept tasks.';
