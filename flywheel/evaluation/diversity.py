"""Diversity of the tasks of a round, and of outputs. Pure functions; all but novelty at one sample size.

Each figure sees another kind of sameness: distinct-n the same phrases, the compression ratio long repeats, self-BLEU
similar sentences, the kinds what is asked for. All of them change with the number of texts, so they are measured on
samples of a fixed size, drawn with the run's seed.
"""

from __future__ import annotations

import itertools
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence

from flywheel.core.seeds import generator
from flywheel.instructions.kinds import kind_of
from flywheel.instructions.similarity import SimilarityIndex, words
from flywheel.records import Metric, Task

SAMPLE = 500
"""Tasks that the figures are measured on; a round of fewer is measured on what it has."""
SELF_BLEU_SAMPLE = 100
"""self-BLEU compares each text with all others, so it sees fewer."""
NOVEL = 0.5
"""An instruction is novel if ROUGE-L to every earlier one is at most this."""


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Distinct n-grams of words as a share of all (Li et al., arXiv 1510.03055, section 5): 1 is all different."""
    runs = [run for text in texts for run in zip(*(words(text)[start:] for start in range(n)), strict=False)]
    return len(set(runs)) / len(runs) if runs else 0.0


def compression_ratio(texts: Sequence[str]) -> float:
    """Bytes before and after deflate (Shaib et al., arXiv 2403.00553, section 3): the higher, the more repeats."""
    whole = "\n".join(texts).encode()
    return len(whole) / len(zlib.compress(whole, level=9)) if whole else 0.0


def self_bleu(texts: Sequence[str]) -> float:
    """Mean BLEU of each text against all others, 0 to 1 (Zhu et al., arXiv 1802.01886): 1 is all the same."""
    if len(texts) < 2:
        return 0.0
    from sacrebleu.metrics.bleu import BLEU

    bleu = BLEU(effective_order=True)
    scores = [float(bleu.sentence_score(text, [*texts[:place], *texts[place + 1 :]]).score) for place, text in enumerate(texts)]
    return sum(scores) / len(scores) / 100


def task_diversity(tasks: Iterable[Task], earlier: Iterable[Task], *names: object, count: int) -> list[Metric]:
    """The figures of the kept tasks of a round, ``count`` in all; ``earlier`` are seeds and what earlier rounds kept.

    Sameness is measured on instruction and input together, kinds and novelty on instructions. The tasks are iterated over
    once and not kept in memory.
    """
    places = generator("diversity", *names).sample(range(count), min(SAMPLE, count))
    drawn, sample, novel, kinds = set(places), dict[int, str](), 0, Counter[str]()
    index, seen = SimilarityIndex(NOVEL), set[int]()
    for task in earlier:
        if hash(task.instruction) not in seen:
            seen.add(hash(task.instruction))
            index.add("", task.instruction)
    for place, task in enumerate(tasks):
        kinds[kind_of(task.instruction)] += 1
        novel += index.nearest(task.instruction) is None
        if place in drawn:
            sample[place] = f"{task.instruction} {task.input}"
    texts = [sample[place] for place in places]
    figures = {
        "tasks.sample": float(len(sample)),
        "tasks.distinct_1": distinct_n(texts, 1),
        "tasks.distinct_2": distinct_n(texts, 2),
        "tasks.compression_ratio": compression_ratio(texts),
        "tasks.self_bleu": self_bleu(texts[:SELF_BLEU_SAMPLE]),
        "tasks.novel": novel / count if count else 0.0,
        "tasks.kinds": float(len(kinds)),
    }
    figures |= {f"tasks.kind.{kind}": float(number) for kind, number in kinds.most_common()}
    return [Metric(name=name, value=value) for name, value in figures.items()]


def output_diversity(outputs: Sequence[str]) -> list[float]:
    """Distinct-2 across outputs for different tasks, as the contribution of each output, 0 to 1.

    Each distinct pair of words of an output (or its only word) counts as 1 over the number of outputs that have it, and these
    are averaged: 1 where no other output shares any, 1 / len(outputs) where all are the same. Empty outputs share one pair.
    """
    pairs = [set(itertools.pairwise(text)) if len(text) > 1 else {tuple(text)} for text in map(words, outputs)]
    shared = Counter(pair for output in pairs for pair in output)
    return [sum(1 / shared[pair] for pair in output) / len(output) for output in pairs]
