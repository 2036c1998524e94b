CREATE TABLE models (
    model_id VARCHAR PRIMARY KEY,
    kind VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    digest VARCHAR NOT NULL,
    parent VARCHAR,
    recipe JSON NOT NULL,
    facts JSON NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT current_timestamp,
    pruned_at TIMESTAMPTZ
);
COMMENT ON TABLE models IS 'Every generator, base, member, merged reward model and judge.';
COMMENT ON COLUMN models.model_id IS 'Kind, name and first 12 digits of the digest; other tables refer to it.';
COMMENT ON COLUMN models.kind IS 'generator, base, member, reward or judge.';
COMMENT ON COLUMN models.name IS 'Short name: the round that trained a generator, or the name of a member or judge in the config.';
COMMENT ON COLUMN models.path IS 'Folder of the weights, relative to the workspace if inside it; the function or address of a judge.';
COMMENT ON COLUMN models.digest IS 'SHA-256 of the files that determine the output of the model.';
COMMENT ON COLUMN models.parent IS 'Model that this one was trained from.';
COMMENT ON COLUMN models.recipe IS 'Data and settings that this model was made from.';
COMMENT ON COLUMN models.facts IS 'What is known of the model from how it was made: rows, loss, accuracy on each test set, members.';
COMMENT ON COLUMN models.created_at IS 'Time when the model was recorded.';
COMMENT ON COLUMN models.pruned_at IS 'Time when `flywheel prune` removed the folder; NULL if it was not pruned.';

CREATE TABLE learning_curves (
    model_id VARCHAR NOT NULL,
    step INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    value DOUBLE NOT NULL
);
COMMENT ON TABLE learning_curves IS 'Training logs of models.';
COMMENT ON COLUMN learning_curves.model_id IS 'Model that was trained.';
COMMENT ON COLUMN learning_curves.step IS 'Number of optimizer steps done.';
COMMENT ON COLUMN learning_curves.name IS 'loss, learning_rate, accuracy, margin and others, as the trainer names them.';
COMMENT ON COLUMN learning_curves.value IS 'Value over the steps since the previous point.';

CREATE TABLE merge_trials (
    members VARCHAR NOT NULL,
    trial INTEGER NOT NULL,
    method VARCHAR NOT NULL,
    density DOUBLE NOT NULL,
    normalize BOOLEAN NOT NULL,
    weights JSON NOT NULL,
    retained DOUBLE NOT NULL,
    accuracy DOUBLE NOT NULL,
    accuracies JSON NOT NULL,
    tried_at TIMESTAMPTZ NOT NULL DEFAULT current_timestamp
);
COMMENT ON TABLE merge_trials IS 'Merges that a search tried on the validation splits.';
COMMENT ON COLUMN merge_trials.members IS 'Digest of the merged members.';
COMMENT ON COLUMN merge_trials.trial IS 'Number of the merge in its search.';
COMMENT ON COLUMN merge_trials.method IS 'The merge_method of mergekit.';
COMMENT ON COLUMN merge_trials.density IS 'Share of the changes of each member that is kept.';
COMMENT ON COLUMN merge_trials.normalize IS 'Whether the weights are divided by their sum.';
COMMENT ON COLUMN merge_trials.weights IS 'Weight of each member.';
COMMENT ON COLUMN merge_trials.retained IS 'Lowest share of its own accuracy on its own dataset that any member retains.';
COMMENT ON COLUMN merge_trials.accuracy IS 'Mean accuracy over the datasets.';
COMMENT ON COLUMN merge_trials.accuracies IS 'Accuracy on each dataset.';
COMMENT ON COLUMN merge_trials.tried_at IS 'Time of the trial.';

CREATE TABLE seed_tasks (
    seeds VARCHAR NOT NULL,
    position INTEGER NOT NULL,
    task_id VARCHAR NOT NULL,
    set_name VARCHAR,
    kind VARCHAR,
    instruction VARCHAR NOT NULL,
    input VARCHAR NOT NULL,
    constraints VARCHAR NOT NULL
);
COMMENT ON TABLE seed_tasks IS 'The tasks written by people that all other tasks descend from.';
COMMENT ON COLUMN seed_tasks.seeds IS 'Digest of the whole seed file.';
COMMENT ON COLUMN seed_tasks.position IS 'Position in the file, from 0.';
COMMENT ON COLUMN seed_tasks.task_id IS 'Digest of instruction, input and constraints.';
COMMENT ON COLUMN seed_tasks.set_name IS 'Seeds of the same set are shown together as demos; NULL if in no set.';
COMMENT ON COLUMN seed_tasks.kind IS 'Kind of task according to the file.';
COMMENT ON COLUMN seed_tasks.instruction IS 'What to do.';
COMMENT ON COLUMN seed_tasks.input IS 'What to do it with.';
COMMENT ON COLUMN seed_tasks.constraints IS 'What the output must satisfy; the word None for no constraints.';

CREATE TABLE heldout_tasks (
    heldout VARCHAR NOT NULL,
    position INTEGER NOT NULL,
    task_id VARCHAR NOT NULL,
    kind VARCHAR,
    instruction VARCHAR NOT NULL,
    input VARCHAR NOT NULL,
    constraints VARCHAR NOT NULL,
    reference VARCHAR
);
COMMENT ON TABLE heldout_tasks IS 'The fixed tasks that generators are evaluated on and never trained on.';
COMMENT ON COLUMN heldout_tasks.heldout IS 'Digest of the whole held-out file.';
COMMENT ON COLUMN heldout_tasks.position IS 'Position in the file, from 0.';
COMMENT ON COLUMN heldout_tasks.task_id IS 'Digest of instruction, input and constraints.';
COMMENT ON COLUMN heldout_tasks.kind IS 'Kind of task according to the file.';
COMMENT ON COLUMN heldout_tasks.instruction IS 'What to do.';
COMMENT ON COLUMN heldout_tasks.input IS 'What to do it with.';
COMMENT ON COLUMN heldout_tasks.constraints IS 'What the output must satisfy; the word None for no constraints.';
COMMENT ON COLUMN heldout_tasks.reference IS 'A known good output; NULL if there is none.';

CREATE TABLE rounds (
    round VARCHAR PRIMARY KEY,
    number INTEGER NOT NULL,
    parent VARCHAR,
    policy VARCHAR NOT NULL DEFAULT 'best',
    status VARCHAR NOT NULL CHECK (status IN ('running', 'done', 'failed')),
    seed BIGINT NOT NULL,
    fingerprint VARCHAR NOT NULL,
    identity JSON NOT NULL,
    config JSON NOT NULL,
    generator_in VARCHAR NOT NULL,
    generator_out VARCHAR,
    reward_model VARCHAR,
    judge VARCHAR NOT NULL,
    engine JSON NOT NULL DEFAULT '{}',
    versions JSON NOT NULL,
    started_at TIMESTAMPTZ NOT NULL DEFAULT current_timestamp,
    finished_at TIMESTAMPTZ
);
COMMENT ON TABLE rounds IS 'r0 evaluates the original generator; r1, r2 and so on each generate a dataset and train on it.';
COMMENT ON COLUMN rounds.round IS 'Name: r0, r1, r2; a control is named after the round it shares tasks with, such as r1-random.';
COMMENT ON COLUMN rounds.number IS 'Number in the name, to order by.';
COMMENT ON COLUMN rounds.parent IS 'Round whose generator this round started from; NULL for r0.';
COMMENT ON COLUMN rounds.policy IS 'Selection policy whose candidates the generator was trained on: best, or that of a control, such as random.';
COMMENT ON COLUMN rounds.status IS 'running, done or failed; the same command resumes a running or failed round.';
COMMENT ON COLUMN rounds.seed IS 'Seed that all random choices of the round derive from.';
COMMENT ON COLUMN rounds.fingerprint IS 'SHA-256 of the identity.';
COMMENT ON COLUMN rounds.identity IS 'Everything that determines the rows of the round: config values, and digests of models, prompts and data.';
COMMENT ON COLUMN rounds.config IS 'The whole configuration.';
COMMENT ON COLUMN rounds.generator_in IS 'Generator that generates the tasks and candidates (a model_id).';
COMMENT ON COLUMN rounds.generator_out IS 'Generator or student trained in this round (a model_id); NULL until it is trained.';
COMMENT ON COLUMN rounds.reward_model IS 'Merged reward model that selects the winners (a model_id); NULL if only tasks were proposed so far.';
COMMENT ON COLUMN rounds.judge IS 'Judge that decides the verdict and never selects (a model_id).';
COMMENT ON COLUMN rounds.engine IS 'Engine that ran the generator, and why it was chosen: name, why.';
COMMENT ON COLUMN rounds.versions IS 'Versions of Python and of the libraries.';
COMMENT ON COLUMN rounds.started_at IS 'Time when the round started.';
COMMENT ON COLUMN rounds.finished_at IS 'Time when the last stage finished; NULL until then.';

CREATE TABLE stages (
    round VARCHAR NOT NULL,
    stage VARCHAR NOT NULL,
    chunks INTEGER NOT NULL DEFAULT 0,
    rows BIGINT NOT NULL DEFAULT 0,
    tokens BIGINT NOT NULL DEFAULT 0,
    prompt_tokens BIGINT NOT NULL DEFAULT 0,
    seconds DOUBLE NOT NULL DEFAULT 0,
    cost DOUBLE NOT NULL DEFAULT 0,
    started_at TIMESTAMPTZ NOT NULL DEFAULT current_timestamp,
    finished_at TIMESTAMPTZ,
    PRIMARY KEY (round, stage)
);
COMMENT ON TABLE stages IS 'Progress of each stage of a round, committed together with the rows that it counts.';
COMMENT ON COLUMN stages.round IS 'Round.';
COMMENT ON COLUMN stages.stage IS 'propose, answer, score, select, judge, paraphrase, train or evaluate.';
COMMENT ON COLUMN stages.chunks IS 'Number of committed chunks; the stage resumes with the next one.';
COMMENT ON COLUMN stages.rows IS 'Number of committed rows.';
COMMENT ON COLUMN stages.tokens IS 'Number of generated tokens.';
COMMENT ON COLUMN stages.prompt_tokens IS 'Number of prompt tokens; counted once for N candidates if the engine reads the prompt once.';
COMMENT ON COLUMN stages.seconds IS 'Working time of the committed chunks.';
COMMENT ON COLUMN stages.cost IS 'Money spent, if the engine has a price.';
COMMENT ON COLUMN stages.started_at IS 'Time when the first chunk started.';
COMMENT ON COLUMN stages.finished_at IS 'Time when the last chunk was committed; NULL until then.';

CREATE TABLE failed_chunks (
    round VARCHAR NOT NULL,
    stage VARCHAR NOT NULL,
    chunk INTEGER NOT NULL,
    error VARCHAR NOT NULL,
    PRIMARY KEY (round, stage, chunk)
);
COMMENT ON TABLE failed_chunks IS 'Chunks that failed on every worker that tried them; the round continued without their rows.';
COMMENT ON COLUMN failed_chunks.round IS 'Round.';
COMMENT ON COLUMN failed_chunks.stage IS 'answer or score.';
COMMENT ON COLUMN failed_chunks.chunk IS 'Number of the chunk in its stage, from 0.';
COMMENT ON COLUMN failed_chunks.error IS 'Error of the last attempt.';

CREATE TABLE tasks (
    round VARCHAR NOT NULL,
    task_id VARCHAR,
    origin VARCHAR NOT NULL,
    attempt BIGINT NOT NULL,
    parent_task VARCHAR,
    kind VARCHAR,
    instruction VARCHAR,
    input VARCHAR,
    constraints VARCHAR,
    kept BOOLEAN NOT NULL,
    reason VARCHAR,
    nearest_task VARCHAR,
    similarity DOUBLE,
    demos VARCHAR[] NOT NULL,
    raw VARCHAR NOT NULL,
    tokens INTEGER NOT NULL
);
COMMENT ON TABLE tasks IS 'Every attempt at a new task, including the dropped ones.';
COMMENT ON COLUMN tasks.round IS 'Round.';
COMMENT ON COLUMN tasks.task_id IS 'Digest of instruction, input and constraints; NULL if a field is missing.';
COMMENT ON COLUMN tasks.origin IS 'proposed or paraphrased.';
COMMENT ON COLUMN tasks.attempt IS 'Number of the attempt among those of its origin in the round, from 0.';
COMMENT ON COLUMN tasks.parent_task IS 'Task that this one paraphrases; NULL if proposed.';
COMMENT ON COLUMN tasks.kind IS 'Kind of task: the main verb of the instruction, else its question word, else other.';
COMMENT ON COLUMN tasks.instruction IS 'What to do.';
COMMENT ON COLUMN tasks.input IS 'What to do it with.';
COMMENT ON COLUMN tasks.constraints IS 'What the output must satisfy; the word None for no constraints.';
COMMENT ON COLUMN tasks.kept IS 'Whether the task passed all filters.';
COMMENT ON COLUMN tasks.reason IS 'Why the task was dropped; NULL if kept.';
COMMENT ON COLUMN tasks.nearest_task IS 'Most similar seed, earlier or held-out task, if the task was dropped for its similarity.';
COMMENT ON COLUMN tasks.similarity IS 'Similarity to that task, 0 to 1.';
COMMENT ON COLUMN tasks.demos IS 'Ids of the tasks shown in the prompt, in order.';
COMMENT ON COLUMN tasks.raw IS 'Text that the generator generated.';
COMMENT ON COLUMN tasks.tokens IS 'Number of generated tokens.';

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
COMMENT ON TABLE candidates IS 'The N outputs sampled for each kept task.';
COMMENT ON COLUMN candidates.round IS 'Round.';
COMMENT ON COLUMN candidates.task_id IS 'Task that is answered.';
COMMENT ON COLUMN candidates.candidate IS 'Number of the candidate in its task, from 0.';
COMMENT ON COLUMN candidates.output IS 'Generated text.';
COMMENT ON COLUMN candidates.finish_reason IS 'stop, length (cut at the token limit) or prompt-too-long (nothing generated); only stop can win.';
COMMENT ON COLUMN candidates.tokens IS 'Number of generated tokens, including the end token.';
COMMENT ON COLUMN candidates.logprob IS 'Mean log-probability per token at temperature 1, if the engine reports it.';
COMMENT ON COLUMN candidates.seed IS 'Sampling seed of its chunk.';

CREATE TABLE scores (
    round VARCHAR NOT NULL,
    task_id VARCHAR NOT NULL,
    candidate INTEGER NOT NULL,
    model_id VARCHAR NOT NULL,
    score DOUBLE NOT NULL
);
COMMENT ON TABLE scores IS 'Scores of candidates: by the merged reward model for all, by its members for winners, by judges for some tasks.';
COMMENT ON COLUMN scores.round IS 'Round.';
COMMENT ON COLUMN scores.task_id IS 'Task.';
COMMENT ON COLUMN scores.candidate IS 'Number of the candidate in its task.';
COMMENT ON COLUMN scores.model_id IS 'Model that gave the score.';
COMMENT ON COLUMN scores.score IS 'Rewards are in standard deviations over a reference set, judges have their own scale; higher is better.';

CREATE TABLE selections (
    round VARCHAR NOT NULL,
    task_id VARCHAR NOT NULL,
    policy VARCHAR NOT NULL,
    candidate INTEGER NOT NULL,
    margin DOUBLE
);
COMMENT ON TABLE selections IS 'The candidate of each task that each selection policy selects.';
COMMENT ON COLUMN selections.round IS 'Round.';
COMMENT ON COLUMN selections.task_id IS 'Task; a task without a finished candidate has no row.';
COMMENT ON COLUMN selections.policy IS 'best (the winner, by reward), random, max-logprob, longest or first.';
COMMENT ON COLUMN selections.candidate IS 'Number of the selected candidate in its task.';
COMMENT ON COLUMN selections.margin IS 'Its reward minus that of the best other finished candidate; NULL if there is no other.';

CREATE TABLE evaluations (
    round VARCHAR NOT NULL,
    task_id VARCHAR NOT NULL,
    candidate INTEGER NOT NULL,
    output VARCHAR NOT NULL,
    finish_reason VARCHAR NOT NULL,
    tokens INTEGER NOT NULL,
    logprob DOUBLE,
    seed BIGINT NOT NULL
);
COMMENT ON TABLE evaluations IS 'Outputs of the generator trained in each round for the held-out tasks.';
COMMENT ON COLUMN evaluations.round IS 'Round that trained the generator.';
COMMENT ON COLUMN evaluations.task_id IS 'Held-out task.';
COMMENT ON COLUMN evaluations.candidate IS 'Number of the candidate in its task, from 0.';
COMMENT ON COLUMN evaluations.output IS 'Generated text.';
COMMENT ON COLUMN evaluations.finish_reason IS 'stop, length (cut at the token limit) or prompt-too-long (nothing generated).';
COMMENT ON COLUMN evaluations.tokens IS 'Number of generated tokens, including the end token.';
COMMENT ON COLUMN evaluations.logprob IS 'Mean log-probability per token at temperature 1, if the engine reports it.';
COMMENT ON COLUMN evaluations.seed IS 'Sampling seed of its chunk; the same in every round.';

CREATE TABLE evaluation_scores (
    round VARCHAR NOT NULL,
    task_id VARCHAR NOT NULL,
    candidate INTEGER NOT NULL,
    model_id VARCHAR NOT NULL,
    score DOUBLE NOT NULL
);
COMMENT ON TABLE evaluation_scores IS 'Scores of held-out outputs, by the reward model and the judges.';
COMMENT ON COLUMN evaluation_scores.round IS 'Round.';
COMMENT ON COLUMN evaluation_scores.task_id IS 'Held-out task.';
COMMENT ON COLUMN evaluation_scores.candidate IS 'Number of the candidate in its task.';
COMMENT ON COLUMN evaluation_scores.model_id IS 'Model that gave the score.';
COMMENT ON COLUMN evaluation_scores.score IS 'Rewards are in standard deviations over a reference set, judges have their own scale; higher is better.';

CREATE TABLE metrics (
    round VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    value DOUBLE NOT NULL,
    low DOUBLE,
    high DOUBLE
);
COMMENT ON TABLE metrics IS 'Measurements of a round, with confidence intervals for estimates.';
COMMENT ON COLUMN metrics.round IS 'Round.';
COMMENT ON COLUMN metrics.name IS 'heldout.judge, heldout.reward and others of the trained generator; tasks.distinct_2 and others of the kept tasks.';
COMMENT ON COLUMN metrics.value IS 'Value.';
COMMENT ON COLUMN metrics.low IS 'Lower end of the confidence interval; NULL if not an estimate.';
COMMENT ON COLUMN metrics.high IS 'Upper end of the confidence interval; NULL if not an estimate.';

CREATE TABLE verdicts (
    base VARCHAR NOT NULL,
    round VARCHAR NOT NULL,
    verdict VARCHAR NOT NULL,
    evidence JSON NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT current_timestamp
);
COMMENT ON TABLE verdicts IS 'Comparison of each round with its parent, made when the round finished.';
COMMENT ON COLUMN verdicts.base IS 'Parent round.';
COMMENT ON COLUMN verdicts.round IS 'Round that the verdict is about.';
COMMENT ON COLUMN verdicts.verdict IS 'improved, flat, worse, proxy-only, collapsing or inconclusive.';
COMMENT ON COLUMN verdicts.evidence IS 'Differences between the two rounds, with confidence intervals.';
COMMENT ON COLUMN verdicts.created_at IS 'Time of the comparison.';
