CREATE TABLE learning_curves (
    model_id VARCHAR NOT NULL,
    step INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    value DOUBLE NOT NULL
);
COMMENT ON TABLE learning_curves IS 'What trainers told while they trained a model.';
COMMENT ON COLUMN learning_curves.model_id IS 'The model in training.';
COMMENT ON COLUMN learning_curves.step IS 'Optimizer steps done.';
COMMENT ON COLUMN learning_curves.name IS 'loss, learning_rate, accuracy, margin and so on, as the trainer calls it.';
COMMENT ON COLUMN learning_curves.value IS 'The figure since the point before.';

CREATE TABLE merge_trials (
    members VARCHAR NOT NULL,
    trial INTEGER NOT NULL,
    halving INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    method VARCHAR NOT NULL,
    density DOUBLE NOT NULL,
    normalize BOOLEAN NOT NULL,
    weights JSON NOT NULL,
    retained DOUBLE NOT NULL,
    accuracy DOUBLE NOT NULL,
    accuracies JSON NOT NULL,
    tried_at TIMESTAMPTZ NOT NULL DEFAULT current_timestamp
);
COMMENT ON TABLE merge_trials IS 'Merges that a search has tried on the validation splits.';
COMMENT ON COLUMN merge_trials.members IS 'Digest of the members that were merged.';
COMMENT ON COLUMN merge_trials.trial IS 'Number of the merge in its search.';
COMMENT ON COLUMN merge_trials.halving IS '0 is the first look at all merges; each later one has the better third on three times the rows.';
COMMENT ON COLUMN merge_trials.rows IS 'Rows of each set it was tried on, at most.';
COMMENT ON COLUMN merge_trials.method IS 'mergekit''s merge_method.';
COMMENT ON COLUMN merge_trials.density IS 'Share of each member''s changes that is kept.';
COMMENT ON COLUMN merge_trials.normalize IS 'Whether weights are divided by their sum.';
COMMENT ON COLUMN merge_trials.weights IS 'Weight of each member.';
COMMENT ON COLUMN merge_trials.retained IS 'Share of its accuracy on its own set that the worst-off member keeps.';
COMMENT ON COLUMN merge_trials.accuracy IS 'Accuracy on average over the sets.';
COMMENT ON COLUMN merge_trials.accuracies IS 'Accuracy on each set.';
COMMENT ON COLUMN merge_trials.tried_at IS 'When.';
