"""A configuration that is fit to publish: no keys, no passwords, no home folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flywheel.core.safe_text import REMOVED, SECRET_NAME, without_secrets

QUERY = re.compile(r"(?<=\w)\?[^\s]*$")
"""The end of a URL, which may hold a key."""


def public(value: Any, name: str = "") -> Any:
    """Plain values without secrets, which their name or their look gives away, and without the home folder."""
    if isinstance(value, Mapping):
        return {key: public(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [public(item, name) for item in value]
    if not isinstance(value, str):
        return value
    if SECRET_NAME.search(name):
        return REMOVED
    text = without_secrets(value)
    if "://" in text:
        text = QUERY.sub("", text)
    home = str(Path.home())
    return f"~{text.removeprefix(home)}" if text == home or text.startswith(home + "/") else text
