"""ROUGE-L and the index that finds the nearest text: the same decisions as comparing with all of them."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import LCSseq

from flywheel.instructions.similarity import Similar, SimilarityIndex, words

REAL = Path(__file__).parents[3] / "shared" / "data" / "instructions"


def exact(first: str, second: str) -> Fraction:
    """ROUGE-L as a fraction, in whole numbers."""
    one, other = words(first), words(second)
    return Fraction(2 * LCSseq.similarity(one, other), len(one) + len(other)) if one and other else Fraction(-1)


def nearest_of_all(texts: list[str], text: str, threshold: float) -> Similar | None:
    """What the index must find, by looking at everything."""
    values = [exact(text, other) for other in texts]
    if not values or max(values) <= Fraction(str(threshold)):
        return None
    return Similar(str(values.index(max(values))), float(max(values)))


FEW_WORDS = st.lists(st.lists(st.sampled_from("a b c d e f g".split()), max_size=15).map(" ".join), max_size=40)


@settings(max_examples=300, deadline=None)
@given(texts=FEW_WORDS, threshold=st.sampled_from([0.3, 0.5, 0.7, 0.75, 0.9]))
def test_the_index_finds_what_comparing_with_all_finds(texts: list[str], threshold: float) -> None:
    index = SimilarityIndex(threshold)
    for place, text in enumerate(texts):
        assert index.nearest(text) == nearest_of_all(texts[:place], text, threshold)
        index.add(str(place), text)


@settings(max_examples=100, deadline=None)
@given(texts=FEW_WORDS.filter(lambda texts: any(texts)), text=st.sampled_from(["a b c", "g", "c a b d e f"]))
def test_the_closest_is_found_however_unlike_it_is(texts: list[str], text: str) -> None:
    index = SimilarityIndex(0.7)
    for place, other in enumerate(texts):
        index.add(str(place), other)
    found = index.closest(text)
    assert found is not None
    assert found.similarity == pytest.approx(max(0.0, *(float(exact(text, other)) for other in texts), 0.0))


def test_a_pair_just_at_the_threshold_is_not_above_it() -> None:
    index = SimilarityIndex(0.7)
    index.add("ten", "a b c d e f g h i j")
    assert index.nearest("a b c d e f g x y z") is None  # 7 of 10 and 10: exactly 0.7
    assert index.nearest("a b c d e f g h y z") == Similar("ten", 0.8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sort the words, from a to z!", ["sort", "the", "words", "from", "a", "to", "z"]),
        ("snake_case and 3.14", ["snake", "case", "and", "3", "14"]),
        ("Élan vital, façade", ["élan", "vital", "façade"]),
        ("判断句子的情感", list("判断句子的情感")),
        ("Ｆｕｌｌ width", ["full", "width"]),
        ("Столица Франции?", ["столица", "франции"]),
        ("🙂 !!!", []),
    ],
)
def test_words_of_many_scripts(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_texts_without_words_are_like_nothing() -> None:
    index = SimilarityIndex(0.5)
    assert index.closest("anything") is None
    index.add("empty", "?!")
    assert index.nearest("?!") is None
    assert index.closest("?!") is None


def test_similarity_is_what_rouge_score_says() -> None:
    rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    rng = random.Random(0)
    vocabulary = "sort the words of a list from last to first and write 3.5 snake_case It's not-so O'Neil".split()
    for _ in range(300):
        one, other = (" ".join(rng.choices(vocabulary, k=rng.randint(1, 20))) for _ in range(2))
        index = SimilarityIndex(0.5)
        index.add("one", one)
        assert index.closest(other) == ("one", pytest.approx(scorer.score(one, other)["rougeL"].fmeasure, abs=1e-12))


def real_instructions() -> Iterator[str]:
    for path in sorted(REAL.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)["instruction"]


@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs the real instructions in {REAL}")
def test_on_real_instructions_the_index_decides_as_brute_force_does() -> None:
    index, kept = SimilarityIndex(0.7), SimilarityIndex(0.7)
    dropped, texts = 0, dict[str, str]()
    for place, text in enumerate(real_instructions()):
        found, closest = index.nearest(text), kept.closest(text)
        above = closest if closest and exact(text, texts[closest.key]) > Fraction("0.7") else None
        assert found == above
        if found:
            dropped += 1
            continue
        for one in (index, kept):
            one.add(str(place), text)
        texts[str(place)] = text
    assert dropped > 1000
    assert len(texts) > 2000
