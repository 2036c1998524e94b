"""The tasks that the page carries: whole rounds where they fit into it, a sample of each where they do not.

A task id is a digest of the task, so the first tasks by id are as good as drawn at random, and every page has the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.records import Policy
from flywheel.store import paging

LIMIT = 20_000_000
"""Bytes that the tasks of a page may take where the caller does not say how many he wants: it opens in a second or two."""
LONGEST = 4_000
"""Characters of a text that the page carries."""
DEMO = 160
"""Characters of a demo's instruction."""
_SHARE = 0.95
"""What is aimed at: sizes are known when all is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """How many tasks of a round the page carries."""

    round: str
    tasks: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPage:
    """The tasks of a page, as JSON that is safe inside a script element, and how they were drawn."""

    json: str
    sampled: tuple[Sampled, ...]
    asked: int | None
    """Tasks a round that the caller wanted at most."""

    @property
    def is_whole(self) -> bool:
        """Whether every answered task is there."""
        return all(one.tasks == one.of for one in self.sampled)

    @property
    def told(self) -> str:
        """How many of how many, round by round where they differ."""
        shares = {f"{one.tasks:,} of {one.of:,} tasks" for one in self.sampled}
        if len(shares) == 1 and len(self.sampled) > 1:
            return f"{next(iter(shares))} in each of {len(self.sampled)} rounds"
        return ", ".join(f"{one.tasks:,} of {one.of:,} tasks in {one.round}" for one in self.sampled)


def tasks_of(path: Path, *, most: int | None = None) -> TaskPage:
    """The tasks of all rounds that were answered, at most so many a round; by default as many as fit into `LIMIT`."""
    counts = dict(paging.answered(path).rows)
    members, judges = _models(path)
    fitting = most if most is not None else _fitting(path, counts)
    drawn = {name: _tasks(path, name, min(fitting, count), members, judges) for name, count in counts.items()}
    while True:
        payload = _payload(path, drawn, members, judges)
        if most is not None or (size := len(payload.encode())) <= LIMIT or not any(drawn.values()):
            break
        longest = max(map(len, drawn.values()))
        kept = min(longest - 1, int(longest * _SHARE * LIMIT / size))
        drawn = {name: tasks[:kept] for name, tasks in drawn.items()}
    return TaskPage(
        json=payload,
        sampled=tuple(Sampled(round=name, tasks=len(drawn[name]), of=count) for name, count in counts.items()),
        asked=most,
    )


def escaped(value: Any) -> str:
    """JSON that nothing in it can lead out of a script element, whatever a model wrote."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _fitting(path: Path, counts: Mapping[str, int]) -> int:
    """How many tasks a round fit, by the mean size of their texts."""
    size, candidates = paging.texts(path, longest=LONGEST)
    tasks = sum(counts.values())
    if not tasks:
        return 0
    # Beside its texts a task has its id, demos and picks, a candidate its figures.
    each = (size + 45 * candidates) / tasks + 90
    left, fitting = _SHARE * LIMIT / each, 0
    # Small rounds leave their room to the large ones.
    for place, count in enumerate(sorted(counts.values())):
        fitting = int(left / (len(counts) - place))
        if count > fitting:
            break
        left -= count
        fitting = max(counts.values())
    return fitting


def _models(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Names of the members and of the judges that scored candidates, by model id; a judge that decides comes first."""
    rows = paging.scorers(path).rows
    found = [{model_id: name for kind, model_id, name in rows if kind == wanted} for wanted in ("member", "judge")]
    return found[0], found[1]


def _tasks(path: Path, name: str, most: int, members: Mapping[str, str], judges: Mapping[str, str]) -> list[list[Any]]:
    """Tasks of a round as the page's script reads them, by task id; see `FIELDS`."""
    rows = paging.tasks(path, name, most).as_dicts()
    return [_task(name, row, list(members), list(judges)) for row in rows]


FIELDS = (
    "round", "id", "attempt", "instruction", "input", "constraints", "kind", "demos", "margin", "picks", "candidates",
    "paraphrases",
)  # fmt: skip
"""What a task of the page is, in order."""
CANDIDATE_FIELDS = ("candidate", "output", "finish", "tokens", "logprob", "reward", "judges", "members")
"""What a candidate is, in order: judges and members as lists in the order of their names."""


def _task(name: str, row: Mapping[str, Any], members: Sequence[str], judges: Sequence[str]) -> list[Any]:
    picks = {one["policy"]: one["candidate"] for one in row["picks"] or ()}
    return [
        name, row["task_id"], row["attempt"], _cut(row["instruction"]), _cut(row["input"]), _cut(row["constraints"]),
        row["kind"], row["demos"], _short(row["margin"]), [picks.get(str(policy)) for policy in Policy],
        [_candidate(one, members, judges) for one in row["candidates"]],
        [[_cut(one["instruction"] or ""), one["reason"]] for one in row["paraphrases"] or ()],
    ]  # fmt: skip


def _candidate(row: Mapping[str, Any], members: Sequence[str], judges: Sequence[str]) -> list[Any]:
    others = {one["model"]: _short(one["score"]) for one in row["others"] or ()}
    # Most candidates have none of either: an empty list is shorter than one of nulls.
    by = [[others.get(one) for one in models] if others.keys() & set(models) else [] for models in (judges, members)]
    return [
        row["candidate"], _cut(row["output"]), row["finish"], row["tokens"], _short(row["logprob"]), _short(row["reward"]), *by,
    ]  # fmt: skip


def _cut(text: str) -> str:
    return (
        text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text):,} characters in all; the page carries {LONGEST:,})"
    )


def _short(number: float | None) -> float | None:
    return None if number is None or number != number or abs(number) == float("inf") else round(number, 3)


def _payload(path: Path, drawn: Mapping[str, list[list[Any]]], members: Mapping[str, str], judges: Mapping[str, str]) -> str:
    demos = sorted({demo for tasks in drawn.values() for task in tasks for demo in task[FIELDS.index("demos")]})
    places = {demo: place for place, demo in enumerate(demos)}
    known = {
        task_id: (instruction, origin) for task_id, instruction, origin in paging.instructions(path, demos, longest=DEMO).rows
    }

    def placed() -> Iterator[list[Any]]:
        at = FIELDS.index("demos")
        for tasks in drawn.values():
            for task in tasks:
                yield [*task[:at], [places[demo] for demo in task[at]], *task[at + 1 :]]

    return escaped(
        {
            "fields": FIELDS,
            "candidateFields": CANDIDATE_FIELDS,
            "rounds": list(drawn),
            "policies": [str(policy) for policy in Policy],
            "members": list(members.values()),
            "judges": list(judges.values()),
            "demos": [[demo, *known.get(demo, ("", None))] for demo in demos],
            "tasks": list(placed()),
        }
    )
