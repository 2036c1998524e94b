"""A configuration as strangers may see it: no keys, no passwords, no home folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flywheel.core.safe_text import REMOVED, SECRET_NAME, without_secrets

QUERY = re.compile(r"(?<=\w)\?[^\s]*$")
"""The end of an address, where keys are put, too."""


def public(value: Any, name: str = "") -> Any:
    """Plain values without what a stranger should not see: secrets by their name or their look, and the home folder."""
    if isinstance(value, Mapping):
        return {key: public(one, str(key)) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [public(one, name) for one in value]
    if not isinstance(value, str):
        return value
    if SECRET_NAME.search(name):
        return REMOVED
    value = without_secrets(value)
    if "://" in value:
        value = QUERY.sub("", value)
    home = str(Path.home())
    return f"~{value.removeprefix(home)}" if value == home or value.startswith(home + "/") else value
