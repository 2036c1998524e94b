"""How similar tasks are: ROUGE-L over words, and an index that finds the nearest one without comparing all.

ROUGE-L's F measure (Lin 2004, section 3.2) of two texts of l and m words is 2·LCS / (l + m), with LCS the
length of their longest common subsequence. For texts in ASCII it is what Google's rouge-score gives without
stemming, and so what Self-Instruct (arXiv 2212.10560, section 3.1) drops tasks by.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections import Counter
from fractions import Fraction
from itertools import chain
from typing import NamedTuple

import numpy as np
from rapidfuzz.distance import Indel
from rapidfuzz.process import cdist

from flywheel.errors import DataError

# Thai to Burmese and Khmer, Japanese and Chinese are written without spaces: there each character is a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_SURROGATES, _SURROGATE_COUNT, _LETTERS = 0xD800, 0x800, 0x110000
_COUNT_FROM = 1024
"""Texts in an index when it first counts its words."""
_MEETING = 4
"""Rare words that two texts must share to be compared (measured: 3 to 6 take the same time, 1 takes half as long again)."""


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation; any script."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


class Similar(NamedTuple):
    """A text of an index, and how similar it is."""

    key: str
    similarity: float


class SimilarityIndex:
    """Texts, and which of them is most similar to a new one.

    A pair above the threshold shares enough words that it must share some of its rarest ones
    (the prefix filter of Chaudhuri et al., ICDE 2006, with several words as in Wang et al., SIGMOD 2012): only
    such pairs are compared. It never changes a result. Word frequencies are counted again whenever the index
    has doubled.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = Fraction(str(threshold))
        self._letters: dict[str, str] = {}
        self._keys: list[str] = []
        self._texts: list[str] = []
        self._lengths = np.zeros(_COUNT_FROM, dtype=np.int64)
        self._needed = np.zeros(_COUNT_FROM, dtype=np.int64)
        self._frequency: dict[str, int] = {}
        self._places: dict[str, array[int]] = {}
        self._counted = _COUNT_FROM

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: str, text: str) -> None:
        """Add a text; a text without a word is similar to nothing."""
        encoded, place = self._encode(text), len(self._keys)
        self._keys.append(key)
        self._texts.append(encoded)
        if place < self._counted:
            self._note(place, encoded)
            return
        self._counted *= 2
        self._lengths, self._needed = (np.resize(numbers, self._counted) for numbers in (self._lengths, self._needed))
        self._frequency, self._places = Counter(chain.from_iterable(self._texts)), {}
        for earlier, encoded in enumerate(self._texts):
            self._note(earlier, encoded)

    def nearest(self, text: str) -> Similar | None:
        """The most similar text that is above the threshold, of equally similar ones the first that was added."""
        encoded = self._encode(text)
        rarest, needed = self._rarest(encoded)
        places = [np.frombuffer(self._places[letter], dtype=np.int64) for letter in rarest if letter in self._places]
        if not places:
            return None
        met = np.bincount(np.concatenate(places))
        candidates = np.flatnonzero(met)
        candidates = candidates[met[candidates] >= np.minimum(self._needed[candidates], needed)]
        lengths = self._lengths[candidates]
        # No pair has more words in common than its shorter text has.
        possible = 2 * np.minimum(lengths, len(encoded)) * self._threshold.denominator
        above = possible > (lengths + len(encoded)) * self._threshold.numerator
        return self._best(encoded, candidates[above], self._threshold)

    def closest(self, text: str) -> Similar | None:
        """The most similar text whatever its similarity, found by comparing all; None where no text has a word."""
        return self._best(self._encode(text), np.arange(len(self._keys)), Fraction(-1))

    def _best(self, encoded: str, candidates: np.ndarray, above: Fraction) -> Similar | None:
        if not candidates.size or not encoded:
            return None
        totals = self._lengths[candidates] + len(encoded)
        most = int((1 - above) * int(totals.max()))
        distances = cdist([encoded], [self._texts[place] for place in candidates], scorer=Indel.distance, score_cutoff=most)[0]
        common = totals - distances
        best = int((common / totals).argmax())
        # In whole numbers, so that a pair exactly at the threshold is not above it.
        if Fraction(int(common[best]), int(totals[best])) <= above:
            return None
        return Similar(self._keys[candidates[best]], float(common[best] / totals[best]))

    def _note(self, place: int, encoded: str) -> None:
        rarest, self._needed[place] = self._rarest(encoded)
        self._lengths[place] = len(encoded)
        for letter in set(rarest):
            self._places.setdefault(letter, array("q")).append(place)

    def _rarest(self, encoded: str) -> tuple[list[str], int]:
        """The rarest words of a text; a pair above the threshold shares at least the second number of them."""
        length, (top, bottom) = len(encoded), self._threshold.as_integer_ratio()
        # A text of m words can be above it only if 2·m > t·(length + m); the shortest such has fewest in common.
        shortest = top * length // (2 * bottom - top) + 1
        common = top * (length + shortest) // (2 * bottom) + 1
        needed = min(_MEETING, common)
        rarest = sorted(encoded, key=lambda letter: (self._frequency.get(letter, 0), letter))
        return rarest[: length - common + needed], needed

    def _encode(self, text: str) -> str:
        """The words of a text as letters, one a word: what rapidfuzz is fastest with."""
        return "".join(self._letters.get(word) or self._new_letter(word) for word in words(text))

    def _new_letter(self, word: str) -> str:
        code = len(self._letters)
        code += _SURROGATE_COUNT if code >= _SURROGATES else 0
        if code >= _LETTERS:
            raise DataError(
                f"too many different words for similarity ({len(self._letters):,})",
                "Set `instructions.filters.near_duplicate: null`.",
            )
        return self._letters.setdefault(word, chr(code))
