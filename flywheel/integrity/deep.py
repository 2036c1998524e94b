"""`flywheel doctor --deep`: every check, each with a finding that says it holds, or one for each fault."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from flywheel.errors import FlywheelError
from flywheel.integrity.conversions import CONVERSIONS, conversion_faults
from flywheel.integrity.folders import folder_faults
from flywheel.store.checking import DATABASE, SCHEMA, Fault, faults, told
from flywheel.store.rules import BACKUP, CHECKS, NAMED
from flywheel.workspace import Workspace

LEFTOVERS = "leftovers"
ON_DISK = ("models", "inputs", LEFTOVERS)


def examine_deeply(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """Findings in the form of the plain doctor's."""
    if not workspace.store.path.exists():
        return
    try:
        found = faults(workspace.store.path)
    except FlywheelError as error:
        yield amiss(DATABASE, error)
        return
    names = [DATABASE]
    if not any(one.check == DATABASE for one in found):
        names += dict.fromkeys([SCHEMA, *(check.name for check in CHECKS), *ON_DISK, CONVERSIONS])
        found += [*_on_disk(workspace, found), *conversion_faults(workspace)]
    for name in names:
        faulty = [one for one in found if one.check == name]
        for one in faulty:
            yield {"what": name, "found": one.found, "ok": False, "remedy": one.remedy}
        if not faulty:
            unseen = name == LEFTOVERS and workspace.is_at_work()
            told_of = "not looked for while a process is at work" if unseen else "sound"
            yield {"what": name, "found": told_of, "ok": True, "remedy": ""}


def amiss(what: str, error: FlywheelError) -> dict[str, Any]:
    """An error as a finding: its message ends with what to do."""
    found, _, remedy = str(error).partition("; ")
    return {"what": what, "found": found, "ok": False, "remedy": remedy or "see what was found"}


def _on_disk(workspace: Workspace, found: Sequence[Fault]) -> Iterator[Fault]:
    try:
        with told(workspace.store.path):
            there = list(folder_faults(workspace))
    except FlywheelError:  # the schema is told already
        for name in ON_DISK:
            yield Fault(check=name, found="not looked at: the models or rounds cannot be read", remedy=BACKUP)
        return
    # While models are not recorded that rounds name, what seems left over may be theirs.
    if any(one.check == NAMED for one in found):
        first = f"{BACKUP} first: rounds name models that are not recorded"
        there = [replace(one, remedy=first) if one.check == LEFTOVERS else one for one in there]
    yield from there
