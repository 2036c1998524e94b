-- What a cluster could not do.

CREATE TABLE set_aside (
    round VARCHAR NOT NULL,
    stage VARCHAR NOT NULL,
    chunk INTEGER NOT NULL,
    error VARCHAR NOT NULL,
    PRIMARY KEY (round, stage, chunk)
);
COMMENT ON TABLE set_aside IS 'Chunks that could not be done, whoever tried; their round went on without their rows.';
COMMENT ON COLUMN set_aside.round IS 'The round.';
COMMENT ON COLUMN set_aside.stage IS 'The stage.';
COMMENT ON COLUMN set_aside.chunk IS 'Place among the chunks of the stage, from 0.';
COMMENT ON COLUMN set_aside.error IS 'What the last try failed with.';
