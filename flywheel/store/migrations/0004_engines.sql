ALTER TABLE stages ADD COLUMN prompt_tokens BIGINT DEFAULT 0;
COMMENT ON COLUMN stages.prompt_tokens IS 'Tokens read: a prompt that is answered N times counts once where the engine reads it once.';

ALTER TABLE rounds ADD COLUMN engine JSON DEFAULT '{}';
COMMENT ON COLUMN rounds.engine IS 'What ran the generator, and why that: name, why.';
COMMENT ON COLUMN rounds.generator_in IS 'Model id of the generator that writes the tasks and candidates.';
COMMENT ON COLUMN rounds.generator_out IS 'Model id of the generator as trained in this round, or of the student trained in its place.';

COMMENT ON COLUMN candidates.finish_reason IS 'stop; length for a text cut at the token limit, prompt-too-long for one not begun: such candidates never win.';
COMMENT ON COLUMN evaluations.finish_reason IS 'stop, length for a text cut at the token limit, or prompt-too-long for one not begun.';
