-- Verdicts that differ from their evidence.
SELECT round || ': the verdict ' || verdict || ' against ' || base || ' does not match its evidence' FROM verdicts
WHERE (evidence->>'$.verdict', evidence->>'$.round', evidence->>'$.base') <> (verdict, round, base)
