"""Problems of a database, planted one by one: the SQL that damages a sound one, and what the check must report."""

from __future__ import annotations

ONE_TASK = "(SELECT min(task_id) FROM candidates WHERE round = 'r1')"
REWARD = "(SELECT reward_model FROM rounds WHERE round = 'r1')"
BEATEN = "(SELECT min(task_id) FROM selections WHERE round = 'r1' AND policy = 'best' AND margin IS NOT NULL)"
"""A task with a finished candidate beside its winner."""

PLANTED = {
    "a missing candidate": (
        "stages", f"DELETE FROM candidates WHERE round = 'r1' AND candidate = 3 AND task_id = {ONE_TASK}",
        "r1 answer: 320 rows committed, 319 found",
    ),
    "a wrong count": (
        "stages", "UPDATE stages SET rows = rows + 1 WHERE round = 'r1' AND stage = 'propose'", "r1 propose:",
    ),
    "rows of a stage that is not recorded": (
        "stages", "DELETE FROM stages WHERE round = 'r1' AND stage = 'judge'", "r1 judge: 0 rows committed",
    ),
    "missing held-out outputs": ("stages", "DELETE FROM evaluations WHERE round = 'r0' AND candidate = 0", "r0 evaluate:"),
    "missing scores of the members": (
        "stages", "DELETE FROM scores WHERE round = 'r2' AND model_id LIKE 'member-%'", "r2 select:",
    ),
    "a trained generator without a name": (
        "stages", "UPDATE rounds SET generator_out = NULL WHERE round = 'r2'", "r2 train: 1 rows committed, 0 found",
    ),
    "an unfinished stage of a round that is done": (
        "stages", "UPDATE stages SET finished_at = NULL WHERE round = 'r1' AND stage = 'score'", "r1 score: not finished",
    ),
    "a task without candidates": (
        "stages", f"DELETE FROM candidates WHERE round = 'r1' AND task_id = {ONE_TASK}", "r1 answer:",
    ),
    "a candidate without a score": (
        "stages", f"DELETE FROM scores WHERE round = 'r1' AND candidate = 0 AND model_id = {REWARD}", "r1 score:",
    ),
    "a held-out task without outputs": (
        "stages", "DELETE FROM evaluations WHERE round = 'r1' AND candidate = 1", "r1 evaluate:",
    ),
    "a held-out output without a score": (
        "stages", f"DELETE FROM evaluation_scores WHERE round = 'r1' AND candidate = 1 AND model_id = {REWARD}", "r1 evaluate:",
    ),
    "winners without scores": ("stages", f"DELETE FROM scores WHERE round = 'r2' AND model_id = {REWARD}", "r2 score:"),
    "tasks without a winner": ("stages", "DELETE FROM selections WHERE round = 'r1' AND policy = 'best'", "r1 select:"),
    **{
        f"duplicate rows of {table}": (
            "stages", f"INSERT INTO {table} SELECT * FROM {table} WHERE round = 'r1'", f"r1 {stage}:",
        )
        for table, stage in (
            ("tasks", "propose"), ("candidates", "answer"), ("scores", "score"), ("selections", "select"),
            ("evaluations", "evaluate"), ("evaluation_scores", "evaluate"),
        )
    },
    "winners that are not finished": (
        "winners", "UPDATE candidates SET finish_reason = 'length' WHERE round = 'r1'", "selected candidates are not finished",
    ),
    "a winner that does not have the highest reward": (
        "winners",
        f"UPDATE scores SET score = score - 99 WHERE round = 'r1' AND model_id = {REWARD} AND task_id = {BEATEN} "
        f"AND candidate = (SELECT candidate FROM selections WHERE round = 'r1' AND policy = 'best' AND task_id = {BEATEN})",
        "r1: 1 winners do not have the highest reward",
    ),
    "a winner that is no candidate": (
        "references", "UPDATE selections SET candidate = 9 WHERE round = 'r1' AND policy = 'first'",
        "selections of missing candidates",
    ),
    "scores without candidates": (
        "references", f"DELETE FROM candidates WHERE round = 'r1' AND task_id = {ONE_TASK}", "scores of missing candidates",
    ),
    "candidates without a task": (
        "references", "UPDATE tasks SET kept = false, reason = 'refusal' WHERE round = 'r1'",
        "r1: 320 candidates of tasks that were not kept",
    ),
    "held-out scores without outputs": (
        "references", "DELETE FROM evaluations WHERE round = 'r2'", "scores of missing held-out outputs",
    ),
    "outputs for tasks that are not held out": (
        "references", "UPDATE evaluations SET task_id = 'x' || task_id WHERE round = 'r2'",
        "r2: 240 outputs of tasks that are not held out",
    ),
    "scores of an unrecorded model": ("references", "DELETE FROM models WHERE name = 'pairs'", "(member-pairs-"),
    "an unrecorded generator": (
        "references", "DELETE FROM models WHERE kind = 'generator' AND name = 'r1'", "unrecorded models (generator-r1-",
    ),
    "an unrecorded reward model": (
        "references", "DELETE FROM models WHERE kind = 'reward'", "unrecorded models (reward-merged-",
    ),
    "an unrecorded judge": ("references", "DELETE FROM models WHERE kind = 'judge'", "unrecorded models (judge-verifier-"),
    "an unrecorded member": ("references", "DELETE FROM models WHERE name = 'thumbs'", "unrecorded members (member-thumbs-"),
    "a missing parent": ("references", "DELETE FROM rounds WHERE round = 'r1'", "r2: 1 missing parents (r1)"),
    "a verdict against a missing round": (
        "references", "DELETE FROM rounds WHERE round = 'r1'", "r2: 1 verdicts against missing rounds (r1)",
    ),
    "missing held-out tasks": ("references", "DELETE FROM heldout_tasks", "outputs of tasks that are not held out"),
    "missing seeds": ("references", "DELETE FROM seed_tasks", "r1: 1 missing seed files"),
    **{
        f"{table} without a round": (
            "references", f"UPDATE {table} SET round = 'r9' WHERE round = 'r1'", f"rows of {table} without a round",
        )
        for table in (
            "stages", "tasks", "candidates", "scores", "selections", "evaluations", "evaluation_scores", "metrics", "verdicts",
        )
    },
}  # fmt: skip
"""By name: the check that must report it, the SQL that plants it, and a part of the message."""
