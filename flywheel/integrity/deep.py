"""`flywheel doctor --deep`: every check, each with a finding that says it holds, or one for each fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flywheel.errors import FlywheelError
from flywheel.integrity.folders import folder_faults
from flywheel.store.checking import CHECKS, DATABASE, faults
from flywheel.workspace import Workspace

LEFTOVERS = "leftovers"
ON_DISK = ("models", "inputs", LEFTOVERS)


def examine_deeply(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """Findings in the form of the plain doctor's."""
    if not workspace.store.path.exists():
        return
    try:
        found = list(faults(workspace.store.path))
        if not any(one.check == DATABASE for one in found):
            found += folder_faults(workspace)
    except FlywheelError as error:
        yield {"what": DATABASE, "found": str(error), "ok": False, "remedy": "see the message"}
        return
    broken = any(one.check == DATABASE for one in found)
    for name in dict.fromkeys((DATABASE, *(() if broken else (check.name for check in CHECKS)), *(() if broken else ON_DISK))):
        amiss = [one for one in found if one.check == name]
        for one in amiss:
            yield {"what": name, "found": one.found, "ok": False, "remedy": one.remedy}
        if not amiss:
            unseen = name == LEFTOVERS and workspace.is_at_work()
            told = "not looked for while a process is at work" if unseen else "sound"
            yield {"what": name, "found": told, "ok": True, "remedy": ""}
