"""Two rounds side by side: their held-out scores from the store, paired by task, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from flywheel.config import EvaluationConfig
from flywheel.errors import StoreError
from flywheel.evaluation.verdict import Evidence, Measured, Verdict, decide, gather, sentence
from flywheel.records import Round
from flywheel.seeds import derive
from flywheel.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The verdict on a round against another, with its evidence."""

    verdict: Verdict
    evidence: Evidence

    @property
    def sentence(self) -> str:
        """The verdict in plain words."""
        return sentence(self.evidence, self.verdict)

    def as_json(self) -> dict[str, Any]:
        """Plain values: ``verdict`` on top, the evidence below."""
        return {"verdict": str(self.verdict), "sentence": self.sentence} | asdict(self.evidence)


def compare(store: Store, base: str, name: str, *, unfinished: bool = False) -> Comparison:
    """Compare two evaluated rounds; raises StoreError where they are not there or not comparable.

    ``unfinished`` allows a round whose evaluation is complete but whose end is not recorded yet.
    """
    rounds = {one.round: one for one in store.rounds()}
    before, after = (_evaluated(rounds, one, unfinished=unfinished) for one in (base, name))
    reason = incomparable(before, after)
    if reason:
        raise StoreError(reason)
    config = EvaluationConfig.model_validate(after.config["evaluation"])
    judge = [store.held_out_scores(one.round, one.judge) for one in (before, after)]
    reward = [store.held_out_scores(one.round, one.reward_model or "") for one in (before, after)]
    tasks = sorted(set.intersection(*(set(scores) for scores in (*judge, *reward))))
    if not tasks:
        raise StoreError(f"the judge gave no number for any task of both {base} and {name}; there is nothing to compare")
    measured_before, measured_after = (
        Measured(name=one.round, judge=_means(judged, tasks), reward=_means(rewarded, tasks))
        for one, judged, rewarded in zip((before, after), judge, reward, strict=True)
    )
    evidence = gather(measured_before, measured_after, config, seed=derive("compare", base, name))
    return Comparison(verdict=decide(evidence), evidence=evidence)


def incomparable(before: Round, after: Round) -> str | None:
    """Why two rounds cannot be compared; None if they can."""
    for what, a, b in (
        ("held-out tasks", before.identity["digest.heldout"], after.identity["digest.heldout"]),
        ("reward models", before.reward_model, after.reward_model),
        ("judges", before.judge, after.judge),
        ("numbers of samples", _samples(before), _samples(after)),
    ):
        if a != b:
            names = f"{before.round} and {after.round}"
            return f"{names} were evaluated with different {what} ({a} and {b}), so they cannot be compared"
    return None


def _samples(evaluated: Round) -> int:
    return int(evaluated.config["evaluation"]["samples"])


def _evaluated(rounds: Mapping[str, Round], name: str, *, unfinished: bool) -> Round:
    found = rounds.get(name)
    if found is None:
        known = ", ".join(rounds) or "none yet"
        raise StoreError(f"no round {name!r}; there are {known}")
    if found.status != "done" and not unfinished:
        raise StoreError(f"{name} is not finished (it is {found.status}); continue it with `flywheel round`")
    return found


def _means(scores: Mapping[str, Sequence[float]], tasks: Sequence[str]) -> np.ndarray:
    return np.array([np.mean(scores[task]) for task in tasks])
