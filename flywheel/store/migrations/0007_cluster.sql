-- What a cluster could not do.

CREATE TABLE failed_chunks (
    round VARCHAR NOT NULL,
    stage VARCHAR NOT NULL,
    chunk INTEGER NOT NULL,
    error VARCHAR NOT NULL,
    PRIMARY KEY (round, stage, chunk)
);
COMMENT ON TABLE failed_chunks IS 'Chunks that could not be done, whoever tried; their round went on without their rows.';
COMMENT ON COLUMN failed_chunks.round IS 'The round.';
COMMENT ON COLUMN failed_chunks.stage IS 'The stage.';
COMMENT ON COLUMN failed_chunks.chunk IS 'Place among the chunks of the stage, from 0.';
COMMENT ON COLUMN failed_chunks.error IS 'What the last try failed with.';
