ALTER TABLE models ADD COLUMN pruned_at TIMESTAMPTZ;
COMMENT ON COLUMN models.pruned_at IS 'When `flywheel prune` removed its folder; NULL while it is there.';
