"""How unlike each other the tasks of a round are. Pure functions; all but `novel_share` at one sample size.

Each figure sees another kind of sameness: distinct-n the same phrases, the compression ratio long repeats, self-BLEU
sentences made alike, the kinds what is asked for. All of them change with the number of texts, so they are measured on
samples of a fixed size, drawn with the run's seed.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence

from flywheel.instructions.kinds import kind_of
from flywheel.instructions.similarity import SimilarityIndex, words
from flywheel.records import Metric, Task
from flywheel.seeds import generator

SAMPLE = 500
"""Tasks that the figures are measured on; a round of fewer is measured on what it has."""
SELF_BLEU_SAMPLE = 100
"""self-BLEU compares each text with all others, so it sees fewer."""
NOVEL = 0.5
"""An instruction is novel if ROUGE-L to every earlier one is at most this."""


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Different runs of n words as a share of all such runs (Li et al., arXiv 1510.03055, section 5): 1 is all different."""
    runs = [run for text in texts for run in zip(*(words(text)[start:] for start in range(n)), strict=False)]
    return len(set(runs)) / len(runs) if runs else 0.0


def compression_ratio(texts: Sequence[str]) -> float:
    """Bytes before and after deflate (Shaib et al., arXiv 2403.00553, section 3): the higher, the more repeats."""
    whole = "\n".join(texts).encode()
    return len(whole) / len(zlib.compress(whole, level=9)) if whole else 0.0


def self_bleu(texts: Sequence[str]) -> float:
    """Mean BLEU of each text against all others, 0 to 1 (Zhu et al., arXiv 1802.01886): 1 is all alike."""
    if len(texts) < 2:
        return 0.0
    from sacrebleu.metrics.bleu import BLEU

    bleu = BLEU(effective_order=True)
    scores = [float(bleu.sentence_score(text, [*texts[:place], *texts[place + 1 :]]).score) for place, text in enumerate(texts)]
    return sum(scores) / len(scores) / 100


def novel_share(instructions: Sequence[str], earlier: Iterable[str]) -> float:
    """Share of instructions that none of the earlier ones is similar to."""
    index = SimilarityIndex(NOVEL)
    for number, instruction in enumerate(dict.fromkeys(earlier)):
        index.add(str(number), instruction)
    return sum(index.nearest(one) is None for one in instructions) / len(instructions) if instructions else 0.0


def task_diversity(tasks: Sequence[Task], earlier: Sequence[Task], *names: object) -> list[Metric]:
    """The figures of a round's kept tasks; ``earlier`` are seeds and the kept tasks of earlier rounds.

    Sameness is measured on instruction and input together, kinds and novelty on instructions.
    """
    sample = generator("diversity", *names).sample(list(tasks), min(SAMPLE, len(tasks)))
    texts = [f"{task.instruction} {task.input}" for task in sample]
    kinds = Counter(kind_of(task.instruction) for task in tasks)
    figures = {
        "tasks.sample": float(len(sample)),
        "tasks.distinct_1": distinct_n(texts, 1),
        "tasks.distinct_2": distinct_n(texts, 2),
        "tasks.compression_ratio": compression_ratio(texts),
        "tasks.self_bleu": self_bleu(texts[:SELF_BLEU_SAMPLE]),
        "tasks.novel": novel_share([task.instruction for task in tasks], [task.instruction for task in earlier]),
        "tasks.kinds": float(len(kinds)),
    }
    figures |= {f"tasks.kind.{kind}": float(count) for kind, count in kinds.most_common()}
    return [Metric(name=name, value=value) for name, value in figures.items()]
