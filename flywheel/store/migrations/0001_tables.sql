CREATE TABLE models (
    model_id VARCHAR PRIMARY KEY,
    kind VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    digest VARCHAR NOT NULL,
    parent VARCHAR,
    recipe JSON NOT NULL,
    facts JSON NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT current_timestamp
);
COMMENT ON TABLE models IS 'Every generator, member, reward model and judge.';
COMMENT ON COLUMN models.model_id IS 'The kind, the name and the start of the digest; other tables refer to it.';
COMMENT ON COLUMN models.kind IS 'generator, base, member, reward or judge.';
COMMENT ON COLUMN models.name IS 'A short name: the round of a generator, the name of a member in the config.';
COMMENT ON COLUMN models.path IS 'Folder of the weights, or the function of a judge.';
COMMENT ON COLUMN models.digest IS 'SHA-256 over the files that decide what the model says.';
COMMENT ON COLUMN models.parent IS 'The model that this one was trained from.';
COMMENT ON COLUMN models.recipe IS 'What it was made from: data, settings, merge.';
COMMENT ON COLUMN models.facts IS 'What is known of it from how it was made: rows, loss, accuracy on each set, members.';
COMMENT ON COLUMN models.created_at IS 'When it was recorded.';

CREATE TABLE rounds (
    round VARCHAR PRIMARY KEY,
    number INTEGER NOT NULL,
    parent VARCHAR,
    status VARCHAR NOT NULL,
    seed BIGINT NOT NULL,
    fingerprint VARCHAR NOT NULL,
    identity JSON NOT NULL,
    config JSON NOT NULL,
    generator_in VARCHAR NOT NULL,
    generator_out VARCHAR,
    reward_model VARCHAR NOT NULL,
    judge VARCHAR NOT NULL,
    versions JSON NOT NULL,
    started_at TIMESTAMPTZ NOT NULL DEFAULT current_timestamp,
    finished_at TIMESTAMPTZ
);
COMMENT ON TABLE rounds IS 'r0 is the untouched generator, evaluated; r1, r2 … are turns of the wheel.';
COMMENT ON COLUMN rounds.round IS 'The name: r0, r1, r2 …';
COMMENT ON COLUMN rounds.number IS 'The name as a number, to order by.';
COMMENT ON COLUMN rounds.parent IS 'The round whose generator this one started from.';
COMMENT ON COLUMN rounds.status IS 'running, done or failed; a running or failed round is continued by the same command.';
COMMENT ON COLUMN rounds.seed IS 'The seed that every random choice of the round derives from.';
COMMENT ON COLUMN rounds.fingerprint IS 'SHA-256 of the identity.';
COMMENT ON COLUMN rounds.identity IS 'All that can change the rows of the round: config fields and digests of models, templates and data.';
COMMENT ON COLUMN rounds.config IS 'The whole configuration.';
COMMENT ON COLUMN rounds.generator_in IS 'Model id of the generator that wrote the tasks and candidates.';
COMMENT ON COLUMN rounds.generator_out IS 'Model id of the generator that was trained on the winners and evaluated.';
COMMENT ON COLUMN rounds.reward_model IS 'Model id of the merged reward model, the only one that selects.';
COMMENT ON COLUMN rounds.judge IS 'Model id of the judge, which never selects.';
COMMENT ON COLUMN rounds.versions IS 'Versions of Python and the libraries that ran.';
COMMENT ON COLUMN rounds.started_at IS 'When the round was opened.';
COMMENT ON COLUMN rounds.finished_at IS 'When its last stage was done.';

CREATE TABLE stages (
    round VARCHAR NOT NULL,
    stage VARCHAR NOT NULL,
    started_at TIMESTAMPTZ NOT NULL DEFAULT current_timestamp,
    finished_at TIMESTAMPTZ,
    chunks INTEGER NOT NULL DEFAULT 0,
    rows BIGINT NOT NULL DEFAULT 0,
    tokens BIGINT NOT NULL DEFAULT 0,
    seconds DOUBLE NOT NULL DEFAULT 0,
    cost DOUBLE NOT NULL DEFAULT 0,
    PRIMARY KEY (round, stage)
);
COMMENT ON TABLE stages IS 'How far each stage of a round is; written in the transaction of the rows it counts.';
COMMENT ON COLUMN stages.round IS 'The round.';
COMMENT ON COLUMN stages.stage IS 'propose, answer, score, select, train or evaluate.';
COMMENT ON COLUMN stages.started_at IS 'When its first chunk was begun.';
COMMENT ON COLUMN stages.finished_at IS 'When its last chunk was committed; NULL while there is more to do.';
COMMENT ON COLUMN stages.chunks IS 'Committed chunks; the stage goes on with the next.';
COMMENT ON COLUMN stages.rows IS 'Rows written.';
COMMENT ON COLUMN stages.tokens IS 'Tokens generated.';
COMMENT ON COLUMN stages.seconds IS 'Working time of the committed chunks.';
COMMENT ON COLUMN stages.cost IS 'Money spent, where the engine has a price.';

CREATE TABLE tasks (
    round VARCHAR NOT NULL,
    task_id VARCHAR,
    attempt BIGINT NOT NULL,
    instruction VARCHAR,
    input VARCHAR,
    constraints VARCHAR,
    demos VARCHAR[] NOT NULL,
    origin VARCHAR NOT NULL,
    parent_task VARCHAR,
    kept BOOLEAN NOT NULL,
    reason VARCHAR,
    nearest_task VARCHAR,
    similarity DOUBLE,
    raw VARCHAR NOT NULL,
    tokens INTEGER NOT NULL
);
COMMENT ON TABLE tasks IS 'Every attempt at a new task, the dropped ones too.';
COMMENT ON COLUMN tasks.round IS 'The round that proposed it.';
COMMENT ON COLUMN tasks.task_id IS 'Digest of the three fields; NULL where a field is missing.';
COMMENT ON COLUMN tasks.attempt IS 'Number of the attempt in its round, from 0.';
COMMENT ON COLUMN tasks.instruction IS 'What is to be done.';
COMMENT ON COLUMN tasks.input IS 'What it is to be done with.';
COMMENT ON COLUMN tasks.constraints IS 'What the output must observe; the word None for nothing.';
COMMENT ON COLUMN tasks.demos IS 'Ids of the tasks shown in the prompt, in order.';
COMMENT ON COLUMN tasks.origin IS 'proposed or paraphrased.';
COMMENT ON COLUMN tasks.parent_task IS 'The task that a paraphrase was made from.';
COMMENT ON COLUMN tasks.kept IS 'Whether it is answered.';
COMMENT ON COLUMN tasks.reason IS 'Why it was dropped; NULL when kept.';
COMMENT ON COLUMN tasks.nearest_task IS 'The most similar earlier task, where similarity was measured.';
COMMENT ON COLUMN tasks.similarity IS 'Similarity to that task, 0 to 1.';
COMMENT ON COLUMN tasks.raw IS 'What the generator wrote, as it wrote it.';
COMMENT ON COLUMN tasks.tokens IS 'Tokens of it.';

CREATE TABLE candidates (
    round VARCHAR NOT NULL,
    task_id VARCHAR NOT NULL,
    candidate INTEGER NOT NULL,
    output VARCHAR NOT NULL,
    finish_reason VARCHAR NOT NULL,
    tokens INTEGER NOT NULL,
    logprob DOUBLE,
    seed BIGINT NOT NULL
);
COMMENT ON TABLE candidates IS 'The N outputs sampled for each kept task, losers too.';
COMMENT ON COLUMN candidates.round IS 'The round.';
COMMENT ON COLUMN candidates.task_id IS 'The task that is answered.';
COMMENT ON COLUMN candidates.candidate IS 'Position among the candidates of the task, from 0.';
COMMENT ON COLUMN candidates.output IS 'The text.';
COMMENT ON COLUMN candidates.finish_reason IS 'stop, or length for a text cut at the token limit: such a candidate never wins.';
COMMENT ON COLUMN candidates.tokens IS 'Tokens of the output, the end mark included.';
COMMENT ON COLUMN candidates.logprob IS 'Mean log-probability per token under the generator at temperature 1, where the engine gives it.';
COMMENT ON COLUMN candidates.seed IS 'Seed of the chunk it was sampled in.';

CREATE TABLE scores (
    round VARCHAR NOT NULL,
    task_id VARCHAR NOT NULL,
    candidate INTEGER NOT NULL,
    model_id VARCHAR NOT NULL,
    score DOUBLE NOT NULL
);
COMMENT ON TABLE scores IS 'What a reward model gave a candidate: the merged one every candidate, each member the winners.';
COMMENT ON COLUMN scores.round IS 'The round.';
COMMENT ON COLUMN scores.task_id IS 'The task.';
COMMENT ON COLUMN scores.candidate IS 'The candidate.';
COMMENT ON COLUMN scores.model_id IS 'Who gave the score.';
COMMENT ON COLUMN scores.score IS 'In standard deviations over the model''s reference set; higher is better.';

CREATE TABLE selections (
    round VARCHAR NOT NULL,
    task_id VARCHAR NOT NULL,
    policy VARCHAR NOT NULL,
    candidate INTEGER NOT NULL,
    margin DOUBLE
);
COMMENT ON TABLE selections IS 'What each policy picked for a task. best is trained on, the others are controls.';
COMMENT ON COLUMN selections.round IS 'The round.';
COMMENT ON COLUMN selections.task_id IS 'The task; one whose candidates were all cut has no row.';
COMMENT ON COLUMN selections.policy IS 'best (highest reward), random, max-logprob, longest or first.';
COMMENT ON COLUMN selections.candidate IS 'The candidate it picked.';
COMMENT ON COLUMN selections.margin IS 'Reward of the pick less that of the best other finished candidate; NULL where it was the only one.';

CREATE TABLE heldout_tasks (
    task_id VARCHAR NOT NULL,
    heldout VARCHAR NOT NULL,
    position INTEGER NOT NULL,
    instruction VARCHAR NOT NULL,
    input VARCHAR NOT NULL,
    constraints VARCHAR NOT NULL
);
COMMENT ON TABLE heldout_tasks IS 'The frozen tasks that generators are evaluated on.';
COMMENT ON COLUMN heldout_tasks.task_id IS 'Digest of the three fields.';
COMMENT ON COLUMN heldout_tasks.heldout IS 'Digest of the whole set of tasks.';
COMMENT ON COLUMN heldout_tasks.position IS 'Place in the file, from 0.';
COMMENT ON COLUMN heldout_tasks.instruction IS 'What is to be done.';
COMMENT ON COLUMN heldout_tasks.input IS 'What it is to be done with.';
COMMENT ON COLUMN heldout_tasks.constraints IS 'What the output must observe.';

CREATE TABLE evaluations (
    round VARCHAR NOT NULL,
    task_id VARCHAR NOT NULL,
    sample INTEGER NOT NULL,
    output VARCHAR NOT NULL,
    finish_reason VARCHAR NOT NULL,
    tokens INTEGER NOT NULL,
    logprob DOUBLE,
    seed BIGINT NOT NULL
);
COMMENT ON TABLE evaluations IS 'Outputs of each round''s trained generator for the held-out tasks.';
COMMENT ON COLUMN evaluations.round IS 'The round whose generator wrote it.';
COMMENT ON COLUMN evaluations.task_id IS 'The held-out task.';
COMMENT ON COLUMN evaluations.sample IS 'Position among the samples of the task, from 0.';
COMMENT ON COLUMN evaluations.output IS 'The text.';
COMMENT ON COLUMN evaluations.finish_reason IS 'stop, or length for a text cut at the token limit.';
COMMENT ON COLUMN evaluations.tokens IS 'Tokens of the output, the end mark included.';
COMMENT ON COLUMN evaluations.logprob IS 'Mean log-probability per token, where the engine gives it.';
COMMENT ON COLUMN evaluations.seed IS 'Seed of the chunk; the same in every round.';

CREATE TABLE evaluation_scores (
    round VARCHAR NOT NULL,
    task_id VARCHAR NOT NULL,
    sample INTEGER NOT NULL,
    model_id VARCHAR NOT NULL,
    score DOUBLE NOT NULL
);
COMMENT ON TABLE evaluation_scores IS 'What the reward model and the judge gave each held-out output.';
COMMENT ON COLUMN evaluation_scores.round IS 'The round.';
COMMENT ON COLUMN evaluation_scores.task_id IS 'The held-out task.';
COMMENT ON COLUMN evaluation_scores.sample IS 'The sample.';
COMMENT ON COLUMN evaluation_scores.model_id IS 'The reward model or the judge.';
COMMENT ON COLUMN evaluation_scores.score IS 'Its score; higher is better.';

CREATE TABLE metrics (
    round VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    value DOUBLE NOT NULL,
    low DOUBLE,
    high DOUBLE
);
COMMENT ON TABLE metrics IS 'Figures of a round, with their interval where they are estimates.';
COMMENT ON COLUMN metrics.round IS 'The round.';
COMMENT ON COLUMN metrics.name IS 'Such as heldout.judge or heldout.reward.';
COMMENT ON COLUMN metrics.value IS 'The figure.';
COMMENT ON COLUMN metrics.low IS 'Lower end of its confidence interval.';
COMMENT ON COLUMN metrics.high IS 'Upper end of its confidence interval.';

CREATE TABLE verdicts (
    base VARCHAR NOT NULL,
    round VARCHAR NOT NULL,
    verdict VARCHAR NOT NULL,
    evidence JSON NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT current_timestamp
);
COMMENT ON TABLE verdicts IS 'Whether a round is better than another, as found when the round was finished.';
COMMENT ON COLUMN verdicts.base IS 'The round compared against.';
COMMENT ON COLUMN verdicts.round IS 'The round that is judged.';
COMMENT ON COLUMN verdicts.verdict IS 'improved, flat, worse, proxy-only, collapsing or inconclusive.';
COMMENT ON COLUMN verdicts.evidence IS 'The differences with their intervals.';
COMMENT ON COLUMN verdicts.created_at IS 'When it was found.';
