-- Members of reward models, with their facts as JSON.
SELECT model_id, name, facts FROM models WHERE kind = 'member';
