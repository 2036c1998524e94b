CREATE TABLE IF NOT EXISTS migrations (
    version INTEGER PRIMARY KEY, name VARCHAR NOT NULL, applied_at TIMESTAMPTZ NOT NULL DEFAULT current_timestamp
);
COMMENT ON TABLE migrations IS 'Schema changes applied to this database.';
COMMENT ON COLUMN migrations.version IS 'Number of the migration.';
COMMENT ON COLUMN migrations.name IS 'Name of the migration.';
COMMENT ON COLUMN migrations.applied_at IS 'Time when it was applied.';
