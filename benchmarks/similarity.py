"""Near-duplicates: flywheel's index against the usual ways, on the same instructions, with the same decisions.

    python benchmarks/similarity.py FOLDER      # jsonl files with an `instruction` in each row, also .gz
    python benchmarks/similarity.py             # the general seeds and texts made of them

Self-Instruct compares each candidate with every kept one by rouge-score. That takes hours on a few thousand tasks, so it
is run whole on the first thousand, and on a sample of the candidates of the whole set.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

from rapidfuzz.distance import Indel
from rapidfuzz.process import extractOne
from rouge_score import rouge_scorer, tokenize

from flywheel.core.assets import asset
from flywheel.instructions.similarity import SimilarityIndex, words

THRESHOLD = 0.7
FIRST = 1000
SAMPLE = 40
SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
Decide = Callable[[Sequence[str]], list[bool]]


def read(folder: Path) -> list[str]:
    """The instructions of all files of a folder, in the order of their names."""
    found = []
    for path in sorted([*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")]):
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            found += [json.loads(line)["instruction"] for line in file if line.strip()]
    return found


def index(texts: Sequence[str]) -> list[bool]:
    """Which of the texts are kept."""
    found, kept = SimilarityIndex(THRESHOLD), []
    for text in texts:
        kept.append(found.nearest(text) is None)
        if kept[-1]:
            found.add(text, text)
    return kept


def rapidfuzz_on_all(texts: Sequence[str]) -> list[bool]:
    """The same by rapidfuzz, every pair."""
    pool: list[list[str]] = []
    kept = []
    for text in texts:
        tokens = words(text)
        found = extractOne(tokens, pool, scorer=Indel.normalized_similarity, score_cutoff=THRESHOLD) if tokens else None
        kept.append(found is None or found[1] <= THRESHOLD)
        if kept[-1]:
            pool.append(tokens)
    return kept


def rouge_score_on_all(texts: Sequence[str]) -> list[bool]:
    """The same as Self-Instruct does it: rouge-score's longest common subsequence, every pair, tokens made once."""
    pool: list[list[str]] = []
    kept = []
    for text in texts:
        kept.append(_passes(text, pool))
        if kept[-1]:
            pool.append(tokenize.tokenize(text, None))
    return kept


def _passes(text: str, pool: Sequence[list[str]]) -> bool:
    tokens = tokenize.tokenize(text, None)
    return max((rouge_scorer._score_lcs(other, tokens).fmeasure for other in pool), default=0.0) <= THRESHOLD


def timed(decide: Decide, texts: Sequence[str]) -> tuple[float, list[bool]]:
    started = time.perf_counter()
    kept = decide(texts)
    return time.perf_counter() - started, kept


def compare_on(texts: Sequence[str], repeats: int) -> None:
    """All three ways on the same texts, taking turns."""
    ways: dict[str, Decide] = {"flywheel's index": index, "rapidfuzz, every pair": rapidfuzz_on_all}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    decisions = {}
    for _ in range(repeats):
        for name, way in ways.items():
            took, decisions[name] = timed(way, texts)
            seconds[name].append(took)
    name = "rouge-score, every pair"
    took, decisions[name] = timed(rouge_score_on_all, texts)
    seconds[name] = [took]
    ours = statistics.median(seconds["flywheel's index"])
    print(f"\n{len(texts):,} instructions, {sum(decisions[name])} kept; medians of {repeats} (rouge-score once)")
    for way, found in seconds.items():
        other = sum(a != b for a, b in zip(decisions[way], decisions["flywheel's index"], strict=True))
        median = statistics.median(found)
        print(f"  {way:<26} {median:>10.3f} s  {median / ours:>8.1f}x   {other} other decisions")


def compare_on_sample(texts: Sequence[str]) -> None:
    """rouge-score on a sample of the candidates, each against the pool that it met."""
    took, kept = timed(index, texts)
    brute, all_pairs = timed(rapidfuzz_on_all, texts)
    chosen = sorted(random.Random(0).sample(range(len(texts)), SAMPLE))
    pool: list[list[str]] = []
    seconds, other = 0.0, 0
    for place, text in enumerate(texts):
        if place in chosen:
            started = time.perf_counter()
            passes = _passes(text, pool)
            seconds += time.perf_counter() - started
            other += passes != kept[place]
        if kept[place]:
            pool.append(tokenize.tokenize(text, None))
    usual = seconds / SAMPLE * len(texts)
    different = sum(a != b for a, b in zip(kept, all_pairs, strict=True))
    print(f"\n{len(texts):,} instructions, {sum(kept):,} kept")
    print(f"  {'flywheel' + chr(39) + 's index':<26} {took:>10.2f} s")
    print(f"  {'rapidfuzz, every pair':<26} {brute:>10.2f} s  {brute / took:>8.1f}x   {different} other decisions")
    print(f"  {'rouge-score, every pair':<26} {usual:>10.0f} s  {usual / took:>8.0f}x   {other} other decisions"
          f"  (from {SAMPLE} candidates: {seconds:.1f} s)")  # fmt: skip


def made_of(texts: Sequence[str], count: int) -> list[str]:
    """Texts of the beginning of one and the end of another: many that are alike, and the words of real ones."""
    rng, pool = random.Random(0), [words(text) for text in sorted(set(texts)) if words(text)]
    made = []
    for _ in range(count):
        first, second = rng.choice(pool), rng.choice(pool)
        made.append(" ".join(first[: rng.randint(1, len(first))] + second[rng.randrange(len(second)) :])[:600])
    return made


def growth(texts: Sequence[str]) -> None:
    """Time as the tasks become many, and what the index of those that were kept holds in memory."""
    everything = (list(texts) + made_of(texts, SIZES[-1]))[: SIZES[-1]]
    print(f"\n{'tasks':>8} {'kept':>8} {'seconds':>9} {'per task':>11} {'memory':>10}")
    found, kept, last, since, seconds = SimilarityIndex(THRESHOLD), list[str](), 0, 0.0, 0.0
    for place, text in enumerate(everything, start=1):
        started = time.perf_counter()
        if found.nearest(text) is None:
            found.add(text, text)
            kept.append(text)
        seconds += time.perf_counter() - started
        if place in SIZES:
            each = 1e3 * (seconds - since) / (place - last)
            print(f"{place:>8,} {len(kept):>8,} {seconds:>9.2f} {each:>8.3f} ms {_memory(kept):>6.0f} MiB")
            last, since = place, seconds


def _memory(texts: Sequence[str]) -> float:
    """What an index of these texts holds, in MiB, beside the texts themselves."""
    tracemalloc.start()
    found = SimilarityIndex(THRESHOLD)
    for text in texts:
        found.add(text, text)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    seeds = [json.loads(line)["instruction"] for line in asset("data/seeds.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = read(arguments.folder) if arguments.folder else [*seeds, *made_of(seeds, 4 * FIRST)]
    if not texts:
        sys.exit(f"{arguments.folder} has no jsonl files with instructions")
    compare_on(random.Random(0).sample(texts, min(FIRST, len(texts))), arguments.repeats)
    compare_on_sample(texts)
    growth(texts)


if __name__ == "__main__":
    main()
