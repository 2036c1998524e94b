"""Asks pip-audit for known vulnerabilities of what a requirements file pins: `python .ci/audit.py constraints.txt`.

pip-audit says "no known vulnerabilities" of a package that it could not look up, too. So what it has looked up is counted,
and where that is nothing, for want of a network say, the audit is skipped in a line and not passed.
"""

from __future__ import annotations

import json
import subprocess
import sys


def main(pins: str) -> int:
    asked = [sys.executable, "-m", "pip_audit", "--requirement", pins, "--no-deps", "--disable-pip", "--format", "json"]
    ran = subprocess.run([*asked, "--progress-spinner", "off"], capture_output=True, text=True, check=False)
    try:
        found = json.loads(ran.stdout)["dependencies"]
    except ValueError:
        found = []
    audited = [one for one in found if "vulns" in one]
    if not audited:
        reasons = [one["skip_reason"] for one in found if "skip_reason" in one]
        said = (reasons or [ran.stderr.strip() or "pip-audit says nothing"])[0].splitlines()[-1]
        print(f"audit skipped: the advisory database cannot be reached ({said[:200]})")
        return 0
    hit = [f"{one['name']} {one['version']}: {', '.join(v['id'] for v in one['vulns'])}" for one in audited if one["vulns"]]
    missed = [one["name"] for one in found if "vulns" not in one]
    print(f"{len(audited)} packages audited, {len(hit)} with known vulnerabilities; {len(missed)} could not be looked up")
    print("".join(f"{line}\n" for line in [*hit, *([f"not looked up: {', '.join(missed)}"] if missed else [])]), end="")
    return 1 if hit else 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
