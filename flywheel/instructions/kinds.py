"""What kind of task an instruction is, by the first verb or question word in it."""

from __future__ import annotations

import re
from functools import cache

from flywheel.core.assets import asset

_QUESTIONS = frozenset("what which who whom whose when where why how is are was were do does did can could would".split())
_ASKING = re.compile(
    r"(?:(?:^|[.!?:;,(\n])[\W_]*|\b(?:to|please|and|then|or|must|should|can|now|briefly|first)\s+)(?=([a-z]+))"
)
"""Where a verb may ask for something: at the start of a clause, or after a word such as *to*."""
OTHER = "other"


def kind_of(instruction: str) -> str:
    """The first verb that asks for something, else the first question word, else ``other``. English only.

    "In this task you are given a text; summarise it." is a *summarise*: verbs that only set the scene do not count.
    """
    words: list[str] = _ASKING.findall(instruction.lower())
    first = (word for names in (_verbs(), _QUESTIONS) for word in words if word in names)
    return next(first, OTHER)


@cache
def _verbs() -> frozenset[str]:
    return frozenset(asset("data/verbs.txt").read_text(encoding="utf-8").split())
