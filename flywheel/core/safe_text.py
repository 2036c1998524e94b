"""Foreign text made safe to print: nothing in it acts on a terminal, and it holds no secret."""

from __future__ import annotations

import json
import re
import unicodedata

REMOVED = "(removed)"
SECRET_NAME = re.compile(
    r"^(key|token)$|(^|[_-])(api[_-]?key|password|secret|authorization|bearer|(hub|access|auth|hf)[_-]token)$", re.IGNORECASE
)
"""Names of values that may be secret."""
_LOOKS_SECRET = re.compile(r"\b(hf_[A-Za-z0-9]{16,}|sk-(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{16,}|Bearer\s+\S+)")
_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")


def visible(text: str, *, keep: str = "") -> str:
    """A text with line ends, terminal codes and hidden characters spelled out, such as ``\\x1b``, except those in ``keep``.

    Bidirectional overrides count as hidden: they show characters in another order than theirs.
    """
    if text.isprintable():
        return text
    return "".join(letter if _is_visible(letter) or letter in keep else repr(letter)[1:-1] for letter in text)


def visible_json(text: str) -> str:
    """The same JSON, with terminal codes and hidden characters escaped."""
    return "".join(letter if _is_visible(letter) or letter == "\n" else json.dumps(letter)[1:-1] for letter in text)


def holds_secret(text: str) -> bool:
    """Whether a text seems to contain a key or a password."""
    return bool(_LOOKS_SECRET.search(text) or _IN_URL.search(text))


def without_secrets(text: str) -> str:
    """A text without what looks like a key, or like a user and password in a URL."""
    return _IN_URL.sub("", _LOOKS_SECRET.sub(REMOVED, text))


def _is_visible(letter: str) -> bool:
    return letter.isprintable() or unicodedata.category(letter) == "Zs"
