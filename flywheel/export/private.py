"""A configuration as strangers may see it: no keys, no passwords, no home folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REMOVED = "(removed)"
SECRET = re.compile(
    r"^(key|token)$|(^|[_-])(api[_-]?key|password|secret|authorization|bearer|(hub|access|auth|hf)[_-]token)$", re.IGNORECASE
)
"""Names under which further arguments of a trainer or a server may hold what is nobody's business."""
LOOKS_SECRET = re.compile(r"\b(hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|Bearer\s+\S+)")
IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+@|(?<=\w)\?[^\s]*$")


def public(value: Any, name: str = "") -> Any:
    """Plain values without what a stranger should not see: secrets by their name or their look, and the home folder."""
    if isinstance(value, Mapping):
        return {key: public(one, str(key)) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [public(one, name) for one in value]
    if not isinstance(value, str):
        return value
    if SECRET.search(name):
        return REMOVED
    value = LOOKS_SECRET.sub(REMOVED, value)
    if "://" in value:
        value = IN_ADDRESS.sub("", value)
    home = str(Path.home())
    return f"~{value.removeprefix(home)}" if value == home or value.startswith(home + "/") else value
