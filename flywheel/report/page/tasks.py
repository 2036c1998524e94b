"""The tasks of the page: all of them where they fit, a sample of each round where they do not.

A task id is a digest of the task, so the first tasks by id are as good as a random sample, and the same on every page.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.records import Policy
from flywheel.store import report_rows
from flywheel.store.report_rows import CANDIDATE_FIELDS, TASK_FIELDS

LIMIT = 20_000_000
"""Bytes of the tasks of a page by default: it opens in a second or two."""
LONGEST = 4_000
"""Characters of a text on the page."""
DEMO = 160
"""Characters of a demo's instruction."""
_FILL = 0.95
"""How full of the limit a page is planned; its size is known once it is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPage:
    """The tasks of a page as JSON that is safe inside a script element, and how many of each round they are."""

    json: str
    shown: dict[str, int]
    """Tasks on the page, by round."""
    answered: dict[str, int]
    """Tasks that have candidates, by round."""


def tasks_of(path: Path, *, limit: int | None = None) -> TaskPage:
    """The tasks of all rounds, at most ``limit`` per round; by default as many as fit into `LIMIT` bytes."""
    scorers = report_rows.rows(path, "scorers")
    judges, members = ({row["model_id"]: row["name"] for row in scorers if row["kind"] == kind} for kind in ("judge", "member"))
    answered = {row["round"]: row["tasks"] for row in report_rows.rows(path, "answered")}
    rows = report_rows.tasks(
        path, judges=list(judges), members=list(members), tasks=limit, size=int(_FILL * LIMIT), longest=LONGEST
    )
    while True:
        tasks = [json.loads(task) for _, task in rows]
        ids = list({demo for task in tasks for demo in task[TASK_FIELDS.index("demos")]})
        demos = report_rows.rows(path, "demos", ids=ids, longest=DEMO)
        text = escaped(
            {
                "fields": TASK_FIELDS,
                "candidateFields": CANDIDATE_FIELDS,
                "rounds": list(answered),
                "policies": [str(policy) for policy in Policy],
                "judges": list(judges.values()),
                "members": list(members.values()),
                "demos": {demo["task_id"]: (demo["instruction"], demo["origin"]) for demo in demos},
                "tasks": tasks,
            }
        )
        if limit is not None or (size := len(text.encode())) <= LIMIT or not rows:
            break
        rows = rows[: int(len(rows) * _FILL * LIMIT / size)]
    counts = Counter(name for name, _ in rows)
    return TaskPage(json=text, shown={name: counts[name] for name in answered}, answered=answered)


def escaped(value: Any) -> str:
    """JSON that cannot end the script element it is in, whatever a model wrote."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text
