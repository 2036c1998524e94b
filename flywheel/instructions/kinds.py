"""What kind of task an instruction is, by the first verb or question word in it."""

from __future__ import annotations

import re

_VERBS = frozenset(
    "add advise analyse analyze answer arrange assess assign balance boil brainstorm break bring build calculate "
    "categorise categorize change check choose cite clarify classify clean code combine come comment compare complete "
    "compose compress compute conclude condense connect construct continue convert convey correct count create critique "
    "debug decide decode deduce define delete derive describe design detect determine develop diagnose differentiate "
    "discuss distinguish divide draft draw edit elaborate eliminate encode enter estimate evaluate examine expand "
    "explain express extend extract figure fill filter find finish fix flag form format formulate generate give group "
    "guess hypothesise hypothesize identify imagine improve indicate infer insert interpret introduce invent judge "
    "justify label link list locate make mark match measure merge modify multiply name offer optimise optimize "
    "order organise organize outline output paraphrase parse perform pick plan point portray predict prepare print "
    "produce prompt proofread propose prove provide punctuate put quote rank rate rearrange recall recast recite "
    "recommend reconstruct record reduce refactor reformat remove rename render reorder repair rephrase replace reply report "
    "respond restate restore restructure retell return reverse review rewrite round say scale score select separate set "
    "shift shorten show simplify sketch solve sort spell split spot state structure substitute subtract suggest sum "
    "summarise summarize supply swap tag teach tell test think trace transcribe transform translate turn unscramble "
    "update use verify weigh work write".split()
)
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
    first = (word for names in (_VERBS, _QUESTIONS) for word in words if word in names)
    return next(first, OTHER)
