"""What others wrote, fit to be shown: nothing in it acts on a terminal, and no secret is in it."""

from __future__ import annotations

import re
import unicodedata

REMOVED = "(removed)"
SECRET_NAME = re.compile(
    r"^(key|token)$|(^|[_-])(api[_-]?key|password|secret|authorization|bearer|(hub|access|auth|hf)[_-]token)$", re.IGNORECASE
)
"""Names under which there may be what is nobody's business."""
_LOOKS_SECRET = re.compile(r"\b(hf_[A-Za-z0-9]{16,}|sk-(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{16,}|Bearer\s+\S+)")
_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+@")


def visible(text: str, *, keep: str = "") -> str:
    """A text whose line ends, terminal codes and hidden letters are spelled out, such as ``\\x1b``, but for those to ``keep``.

    Bidirectional overrides count as hidden: they show letters in another order than they have.
    """
    if text.isprintable():
        return text
    return "".join(letter if _shows(letter) or letter in keep else repr(letter)[1:-1] for letter in text)


def visible_json(text: str) -> str:
    """JSON that means the same, in which terminal codes and hidden letters are escaped."""
    return "".join(letter if _shows(letter) or letter == "\n" else _as_escape(letter) for letter in text)


def holds_secret(text: str) -> bool:
    """Whether a text looks as if a key or a password were in it."""
    return bool(_LOOKS_SECRET.search(text) or _IN_ADDRESS.search(text))


def without_secrets(text: str) -> str:
    """A text without what looks like a key, or like a name and a password in an address."""
    return _IN_ADDRESS.sub("", _LOOKS_SECRET.sub(REMOVED, text))


def _shows(letter: str) -> bool:
    return letter.isprintable() or unicodedata.category(letter) == "Zs"


def _as_escape(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))
