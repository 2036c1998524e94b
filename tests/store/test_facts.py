"""What is known of a model comes back from the store as it went in."""

from __future__ import annotations

import json

import pytest

from flywheel.records import Facts, MergeTrial, SearchResult, Sliced
from flywheel.store.rows import FACTS

TRIAL = MergeTrial(
    trial=3, method="ties", density=0.7, normalize=False, weights={"a": 0.1 + 0.2}, retained=1.0,
    accuracy=0.8, accuracies={"a": 0.8},
)  # fmt: skip
SLICED = Sliced(layers_before=4, layers=3, parameters_before=9, parameters=7)


@pytest.mark.parametrize(
    "facts",
    [
        Facts(),
        Facts(sliced=SLICED),
        Facts(rows=100, dropped={"too long": 1}, loss=1 / 3, seconds=0.5, accuracy={"pairs": 0.85}),
        Facts(
            members=("member-a", "member-b"), weights={"a": 1.0}, merge={"method": "ties", "density": 0.5, "normalize": True},
            search=SearchResult(merged=True, best=TRIAL, single="a", single_accuracy=0.7, trials=48),
        ),
    ],
)  # fmt: skip
def test_facts_are_the_same_after_json(facts: Facts) -> None:
    assert FACTS.validate_json(FACTS.dump_json(facts, exclude_defaults=True)) == facts


def test_what_does_not_apply_is_left_out() -> None:
    assert json.loads(FACTS.dump_json(Facts(rows=5, loss=0.5), exclude_defaults=True)) == {"rows": 5, "loss": 0.5}
