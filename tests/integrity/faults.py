"""Faults of a database, planted one by one: what is done to a sound one, and what the check says then."""

from __future__ import annotations

ONE_TASK = "(SELECT min(task_id) FROM candidates WHERE round = 'r1')"
REWARD = "(SELECT reward_model FROM rounds WHERE round = 'r1')"
BEATEN = "(SELECT min(task_id) FROM selections WHERE round = 'r1' AND policy = 'best' AND margin IS NOT NULL)"
"""A task with a finished candidate beside its winner."""

PLANTED = {
    "a row of candidates is gone": (
        "counts", f"DELETE FROM candidates WHERE round = 'r1' AND candidate = 3 AND task_id = {ONE_TASK}",
        "r1 answer: marked with 320 rows, the tables have 319",
    ),
    "a mark is wrong": (
        "counts", "UPDATE stages SET rows = rows + 1 WHERE round = 'r1' AND stage = 'propose'", "r1 propose: marked with",
    ),
    "rows of a stage that has no mark": (
        "counts", "DELETE FROM stages WHERE round = 'r1' AND stage = 'judge'", "r1 judge: marked with 0 rows",
    ),
    "held-out outputs are gone": (
        "counts", "DELETE FROM evaluations WHERE round = 'r0' AND sample = 0", "r0 evaluate: marked with",
    ),
    "what the members gave the winners is gone": (
        "counts", "DELETE FROM scores WHERE round = 'r2' AND model_id LIKE 'member-%'", "r2 select: marked with",
    ),
    "a trained generator is not named": (
        "counts", "UPDATE rounds SET generator_out = NULL WHERE round = 'r2'",
        "r2 train: marked with 1 rows, the tables have 0",
    ),
    "a round is done and its stage is not": (
        "stage marks", "UPDATE stages SET finished_at = NULL WHERE round = 'r1' AND stage = 'score'",
        "r1 is done, its stage score is not",
    ),
    "a stage without a chunk": (
        "stage marks", "UPDATE stages SET chunks = 0 WHERE round = 'r1' AND stage = 'select'",
        "r1 select: finished, or with rows, and no chunk",
    ),
    "a chunk too few": (
        "stage marks", "UPDATE stages SET chunks = 1 WHERE round = 'r1' AND stage = 'answer'",
        "r1 answer: 1 chunks, 2 of 48 tasks each were to be done",
    ),
    "a status that is none": (
        "stage marks", "UPDATE rounds SET status = 'lost' WHERE round = 'r2'", "r2 is lost, which no round can be",
    ),
    "a task without candidates": (
        "rows that lack", f"DELETE FROM candidates WHERE round = 'r1' AND task_id = {ONE_TASK}",
        "r1: 1 kept tasks without their 4 candidates",
    ),
    "a candidate without a score": (
        "rows that lack", f"DELETE FROM scores WHERE round = 'r1' AND candidate = 0 AND model_id = {REWARD}",
        "r1: 80 candidates without a score of the reward model",
    ),
    "a held-out task without outputs": (
        "rows that lack", "DELETE FROM evaluations WHERE round = 'r1' AND sample = 1",
        "r1: 60 held-out tasks without their 4 outputs",
    ),
    "a held-out output without a score": (
        "rows that lack", f"DELETE FROM evaluation_scores WHERE round = 'r1' AND sample = 1 AND model_id = {REWARD}",
        "r1: 60 held-out outputs without a score of the reward model",
    ),
    "a winner that is no candidate": (
        "winners", "UPDATE selections SET candidate = 9 WHERE round = 'r1' AND policy = 'first'",
        "winners that are no candidate",
    ),
    "winners without scores": (
        "winners", f"DELETE FROM scores WHERE round = 'r2' AND model_id = {REWARD}",
        "winners without a score of the reward model",
    ),
    "winners that were cut": (
        "winners", "UPDATE candidates SET finish_reason = 'length' WHERE round = 'r1'",
        "winners that did not end by themselves",
    ),
    "tasks without a winner": (
        "winners", "DELETE FROM selections WHERE round = 'r1' AND policy = 'best'",
        "tasks with a finished candidate and no winner",
    ),
    "a winner with a reward that is not the highest": (
        "winners",
        f"UPDATE scores SET score = score - 99 WHERE round = 'r1' AND model_id = {REWARD} AND task_id = {BEATEN} "
        f"AND candidate = (SELECT candidate FROM selections WHERE round = 'r1' AND policy = 'best' AND task_id = {BEATEN})",
        "r1: 1 winners whose reward is not the highest of their task",
    ),
    "scores without candidates": (
        "orphans", f"DELETE FROM candidates WHERE round = 'r1' AND task_id = {ONE_TASK}",
        "scores of candidates that are not there",
    ),
    "candidates without a task": (
        "orphans", "UPDATE tasks SET kept = false, reason = 'refusal' WHERE round = 'r1'",
        "r1: 320 candidates of tasks that were not kept",
    ),
    "held-out scores without outputs": (
        "orphans", "DELETE FROM evaluations WHERE round = 'r2'", "held-out scores of outputs that are not there",
    ),
    "outputs for tasks that are not held out": (
        "orphans", "UPDATE evaluations SET task_id = 'x' || task_id WHERE round = 'r2'",
        "r2: 240 held-out outputs of tasks that are not among its held-out tasks",
    ),
    "scores of a model that is not recorded": (
        "orphans", "DELETE FROM models WHERE name = 'pairs'", "scores of the model member-pairs-",
    ),
    "a learning curve of a model that is not recorded": (
        "orphans", "DELETE FROM models WHERE name = 'form'", "points of a learning curve of member-form-",
    ),
    **{
        f"{table} of no round": (
            "rows of no round", f"UPDATE {table} SET round = 'r9' WHERE round = 'r1'", f"rows of {table} are of r9",
        )
        for table in ("stages", "tasks", "candidates", "scores", "selections", "evaluations", "evaluation_scores", "metrics")
    },
    **{
        f"{what} twice": ("duplicates", f"INSERT INTO {table} SELECT * FROM {table} WHERE round = 'r1'", f"{what} there twice")
        for what, table in (
            ("attempts", "tasks"), ("kept tasks", "tasks"), ("candidates", "candidates"), ("scores", "scores"),
            ("picks", "selections"), ("held-out outputs", "evaluations"), ("held-out scores", "evaluation_scores"),
            ("figures", "metrics"), ("verdicts", "verdicts"),
        )
    },
    "a generator that is not recorded": (
        "names", "DELETE FROM models WHERE kind = 'generator' AND name = 'r1'", "r1 names the generator generator-r1-",
    ),
    "a reward model that is not recorded": (
        "names", "DELETE FROM models WHERE kind = 'reward'", "r1 names the reward model reward-merged-",
    ),
    "a judge that is not recorded": (
        "names", "DELETE FROM models WHERE kind = 'judge'", "r0 names the judge judge-verifier-",
    ),
    "a member that is not recorded": ("names", "DELETE FROM models WHERE name = 'thumbs'", "names the member member-thumbs-"),
    "a round that is done without a generator": (
        "names", "UPDATE rounds SET generator_out = NULL WHERE round = 'r2'", "r2 is done and names no trained generator",
    ),
    "a parent that is gone": (
        "names", "DELETE FROM rounds WHERE round = 'r1'", "r2 comes after r1, which is not there",
    ),
    "no parent": ("names", "UPDATE rounds SET parent = NULL WHERE round = 'r2'", "r2 has no parent and is not r0"),
    "held-out tasks that are gone": ("names", "DELETE FROM heldout_tasks", "r0: its held-out tasks are not there"),
    "seeds that are gone": ("names", "DELETE FROM seed_tasks", "r1: its seeds are not there"),
    "a figure that is gone": (
        "figures", "DELETE FROM metrics WHERE round = 'r2' AND name = 'heldout.reward'",
        "r2 is done and has no figure heldout.reward",
    ),
    "a verdict that is gone": (
        "verdicts", "DELETE FROM verdicts WHERE round = 'r2'", "r2 is done and has no verdict against r1",
    ),
    "a verdict on a round that is gone": (
        "verdicts", "DELETE FROM rounds WHERE round = 'r1'", "verdict on r1 against r0: there is no r1",
    ),
    "evidence about a round that is gone": (
        "verdicts",
        "UPDATE verdicts SET evidence = json_merge_patch(evidence, '{\"base\": \"r7\"}') WHERE round = 'r2'",
        "verdict on r2 against r1: there is no r7",
    ),
    "evidence about other rounds": (
        "verdicts",
        "UPDATE verdicts SET evidence = json_merge_patch(evidence, '{\"base\": \"r0\"}') WHERE round = 'r2'",
        "verdict on r2 against r1: its evidence is about r2 against r0",
    ),
    "a verdict that its evidence does not give": (
        "verdicts",
        "UPDATE verdicts SET verdict = 'improved', evidence = json_merge_patch(evidence, '{\"verdict\": \"worse\"}') "
        "WHERE round = 'r2'",
        "verdict on r2 against r1: improved, its evidence says worse",
    ),
}  # fmt: skip
"""By name: the check that must find it, the SQL that does it, and what must be told."""
