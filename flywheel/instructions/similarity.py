"""How similar tasks are: ROUGE-L over words, and an index that finds the nearest one without comparing all.

ROUGE-L's F measure (Lin 2004, section 3.2) of two texts of l and m words is 2·LCS / (l + m), with LCS the
length of their longest common subsequence. For texts in ASCII it is what Google's rouge-score gives without
stemming, and so what Self-Instruct (arXiv 2212.10560, section 3.1) drops tasks by.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from array import array
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from rapidfuzz.distance import Indel
from rapidfuzz.process import cdist

# Thai to Burmese and Khmer, Japanese and Chinese are written without spaces: there each character is a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_MEETING = 8
"""Rare words that two texts must share to be compared (measured: 6 to 12 take the same time, 2 takes twice as long)."""


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation; any script."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


class Similar(NamedTuple):
    """A text of an index, and how similar it is."""

    key: str
    similarity: float


class SimilarityIndex:
    """Texts, and which of them is most similar to a new one.

    A pair above the threshold shares enough words that it must share some of its rarest ones
    (the prefix filter of Chaudhuri et al., ICDE 2006, with several words as in Wang et al., SIGMOD 2012): only
    such pairs are compared. It never changes a result. Words count as rarer the later they were first seen.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = Fraction(str(threshold))
        self._letters: dict[str, str] = {}
        self._keys: list[str] = []
        self._texts: list[str] = []
        self._lengths, self._needed = array("q"), array("q")
        self._places: dict[str, array[int]] = {}

    def add(self, key: str, text: str) -> None:
        """Add a text; a text without a word is similar to nothing."""
        encoded = self._encode(text)
        rarest, needed = self._rarest(encoded)
        for letter in set(rarest):
            self._places.setdefault(letter, array("q")).append(len(self._keys))
        self._keys.append(key)
        self._texts.append(encoded)
        self._lengths.append(len(encoded))
        self._needed.append(needed)

    def nearest(self, text: str) -> Similar | None:
        """The most similar text that is above the threshold, of equally similar ones the first that was added."""
        encoded = self._encode(text)
        rarest, needed = self._rarest(encoded)
        places = [np.frombuffer(self._places[letter], dtype=np.int64) for letter in rarest if letter in self._places]
        if not places:
            return None
        met = np.bincount(np.concatenate(places))
        candidates = np.flatnonzero(met)
        shared = np.minimum(np.frombuffer(self._needed, dtype=np.int64)[candidates], needed)
        return self._best(encoded, candidates[met[candidates] >= shared], self._threshold)

    def closest(self, text: str) -> Similar | None:
        """The most similar text whatever its similarity, found by comparing all; None where no text has a word."""
        return self._best(self._encode(text), np.arange(len(self._keys)), Fraction(-1))

    def _best(self, encoded: str, candidates: np.ndarray, above: Fraction) -> Similar | None:
        if not candidates.size or not encoded:
            return None
        lengths = np.frombuffer(self._lengths, dtype=np.int64)[candidates]
        totals = lengths + len(encoded)
        # No pair has more words in common than its shorter text has.
        possible = 2 * np.minimum(lengths, len(encoded)) * above.denominator > totals * above.numerator
        candidates, totals = candidates[possible], totals[possible]
        if not candidates.size:
            return None
        most = int((1 - above) * int(totals.max()))
        distances = cdist([encoded], [self._texts[place] for place in candidates], scorer=Indel.distance, score_cutoff=most)[0]
        common = totals - distances
        best = int((common / totals).argmax())
        # In whole numbers, so that a pair exactly at the threshold is not above it.
        if Fraction(int(common[best]), int(totals[best])) <= above:
            return None
        return Similar(self._keys[candidates[best]], float(common[best] / totals[best]))

    def _rarest(self, encoded: str) -> tuple[list[str], int]:
        """The rarest words of a text; a pair above the threshold shares at least the second number of them."""
        length, (top, bottom) = len(encoded), self._threshold.as_integer_ratio()
        # A text of m words can be above it only if 2·m > t·(length + m); the shortest such has fewest in common.
        shortest = top * length // (2 * bottom - top) + 1
        common = top * (length + shortest) // (2 * bottom) + 1
        needed = min(_MEETING, common)
        return sorted(encoded, reverse=True)[: length - common + needed], needed

    def _encode(self, text: str) -> str:
        """The words of a text as letters, one a word: what rapidfuzz is fastest with.

        There are 1.1 million letters; in an index of more words, later ones share letters with earlier ones.
        """
        letters = self._letters
        return "".join(letters.setdefault(word, chr(len(letters) % (sys.maxunicode + 1))) for word in words(text))
