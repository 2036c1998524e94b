ALTER TABLE rounds ALTER COLUMN reward_model DROP NOT NULL;
COMMENT ON COLUMN rounds.reward_model IS 'Model id of the merged reward model, the only one that selects; NULL while only tasks were proposed.';

ALTER TABLE tasks ADD COLUMN kind VARCHAR;
COMMENT ON COLUMN tasks.kind IS 'The first verb of the instruction that asks for something, else its question word, else other.';
COMMENT ON COLUMN tasks.attempt IS 'Number of the attempt among those of its origin in the round, from 0.';
COMMENT ON COLUMN tasks.demos IS 'Ids of the tasks shown in the prompt, in order: seeds, or winners of earlier rounds.';
COMMENT ON COLUMN tasks.nearest_task IS 'The seed, earlier or held-out task that it was too similar to.';

CREATE TABLE seed_tasks (
    task_id VARCHAR NOT NULL,
    seeds VARCHAR NOT NULL,
    position INTEGER NOT NULL,
    set_name VARCHAR,
    kind VARCHAR,
    instruction VARCHAR NOT NULL,
    input VARCHAR NOT NULL,
    constraints VARCHAR NOT NULL
);
COMMENT ON TABLE seed_tasks IS 'The tasks that people wrote, from which all others descend.';
COMMENT ON COLUMN seed_tasks.task_id IS 'Digest of the three fields.';
COMMENT ON COLUMN seed_tasks.seeds IS 'Digest of the whole set of seeds.';
COMMENT ON COLUMN seed_tasks.position IS 'Place in the file, from 0.';
COMMENT ON COLUMN seed_tasks.set_name IS 'Demos of one set are shown together; NULL for one that is in no set.';
COMMENT ON COLUMN seed_tasks.kind IS 'Kind of task, as the file says.';
COMMENT ON COLUMN seed_tasks.instruction IS 'What is to be done.';
COMMENT ON COLUMN seed_tasks.input IS 'What it is to be done with.';
COMMENT ON COLUMN seed_tasks.constraints IS 'What the output must observe.';

COMMENT ON COLUMN stages.stage IS 'propose, answer, score, select, paraphrase, train or evaluate.';
COMMENT ON COLUMN metrics.name IS 'heldout.judge, heldout.reward; tasks.distinct_2, tasks.kind.write and others for the diversity of the kept tasks.';
