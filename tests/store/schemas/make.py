"""Make the databases of earlier schemas that lie here, each by the code of its time on real models.

`python tests/store/schemas/make.py 1 2` makes those of schemas 1 and 2: a worktree of the last commit with that schema, a
small reward model, r0, r1 and r2 of a few tasks of nano. The file is kept as xz, which Python reads without a package.
"""

from __future__ import annotations

import lzma
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
WORK = Path("/tmp/flywheel-schemas")
"""A neutral place: configurations are recorded with their paths."""
COMMITS = {1: "3cc3f2d", 2: "ed00c66", 3: "7a0e578", 4: "1c8ec54", 5: "5059dad", 6: "152cc28"}
"""The last commit that runs before the next migration came."""
ROWS = 600
HELD_OUT = 12


def make(schema: int) -> Path:
    """The database of a schema, whole and compressed."""
    folder = WORK / f"schema-{schema}"
    code, workspace = folder / "code", folder / "workspace"
    subprocess.run(["git", "-C", REPOSITORY, "worktree", "add", "--force", "--detach", code, COMMITS[schema]], check=True)
    try:
        sets = [argument for one in overrides(code, folder, schema) for argument in ("--set", one)]
        control = ["--control", "random"] if schema > 4 else []
        command = [sys.executable, "-m", "flywheel.cli", "--workspace", workspace, "round", "--n", "3", "--repeat", "2"]
        subprocess.run([*command, *control, *sets], check=True, cwd=folder, env=os.environ | {"PYTHONPATH": str(code)})
    finally:
        subprocess.run(["git", "-C", REPOSITORY, "worktree", "remove", "--force", code], check=True)
    made = HERE / f"schema-{schema}.duckdb.xz"
    made.write_bytes(lzma.compress((workspace / "flywheel.duckdb").read_bytes(), preset=9))
    return made


def overrides(code: Path, folder: Path, schema: int) -> list[str]:
    """What makes the rounds small: few tasks, members of few rows."""
    folder.mkdir(parents=True, exist_ok=True)

    def few(name: str, rows: int) -> Path:
        kept = (code / "data" / "nano" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[:rows]
        (folder / f"{name}.jsonl").write_text("\n".join(kept), encoding="utf-8")
        return folder / f"{name}.jsonl"

    found = ["instructions.tasks=10", "engine.chunk=6", f"evaluation.tasks={few('heldout', HELD_OUT)}"]
    for member in ("thumbs", "pairs", "form"):
        found += [f"reward.members.{member}.data={few(member, ROWS)}", f"reward.members.{member}.epochs=1"]
    if schema > 1:
        found += ["reward.joint.epochs=1"]
    return found


if __name__ == "__main__":
    for number in map(int, sys.argv[1:] or COMMITS):
        file = make(number)
        print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")
