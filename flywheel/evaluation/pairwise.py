"""A language model as the judge: shown two outputs for one task, it says which is better.

Such a judge leans to what it sees first (Zheng et al., arXiv 2306.05685, section 3.3), so each pair is shown both ways round.
The other output is always the untouched generator's, so that all rounds are measured with one yardstick (as in AlpacaEval,
Dubois et al., arXiv 2404.04475): 1 where a round's output wins both times, 0 where it loses both times, 0.5 for the untouched
generator against itself.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from flywheel.core.seeds import derive
from flywheel.engines.contract import Engine, Sampling
from flywheel.instructions.prompts import Prompts
from flywheel.records import Task

EVEN = 0.5
_SAID = re.compile(r"^\W*better\W+(a|b|neither|tie|both)\b", re.IGNORECASE | re.MULTILINE)


class PairwiseJudge:
    """Judges outputs against those of the untouched generator; the k-th for a task meets the k-th there."""

    def __init__(
        self, engine: Engine, prompts: Prompts, opponents: Mapping[str, Sequence[str]], *, sampling: Sampling, seed: int
    ) -> None:
        """``opponents`` are outputs by task id; a task without any is judged even: it is the untouched generator itself."""
        self._engine, self._prompts, self._opponents = engine, prompts, opponents
        self._sampling, self._seed = sampling, seed

    def __call__(self, rows: Sequence[tuple[Task, str]]) -> list[float | None]:
        """A number for each output, None where the judge said nothing that can be read."""
        met: defaultdict[str, int] = defaultdict(int)
        asked: dict[tuple[Task, str, str], list[float]] = {}
        pairs: list[tuple[Task, str, str] | None] = []
        for task, output in rows:
            others = self._opponents.get(task.task_id, ())
            place, met[task.task_id] = met[task.task_id], met[task.task_id] + 1
            other = others[place % len(others)] if others else output
            same = output.strip() == other.strip()
            pairs.append(None if same else (task, output, other))
            if not same:
                asked[task, output, other] = []
        prompts = [
            prompt
            for task, output, other in asked
            for prompt in (self._prompts.judge(task, output, other), self._prompts.judge(task, other, output))
        ]
        if prompts:
            seed = derive(self._seed, "judge")
            said = self._engine.generate(prompts, n=1, sampling=self._sampling, seed=seed)
            for place, found in enumerate(asked.values()):
                forth, back = (preference(said[2 * place + turn][0].text) for turn in (0, 1))
                found += [one for one in (forth, None if back is None else 1 - back) if one is not None]
        return [EVEN if pair is None else fmean(asked[pair]) if asked[pair] else None for pair in pairs]

    def close(self) -> None:
        """Hang up."""
        self._engine.close()


def preference(text: str) -> float | None:
    """What a judgement says of the first output: 1 better, 0 worse, 0.5 neither; None where it does not say.

    Its last word on the matter counts: a judge may weigh this and that before.
    """
    found = _SAID.findall(text)
    return {"a": 1.0, "b": 0.0}.get(found[-1].lower(), EVEN) if found else None
