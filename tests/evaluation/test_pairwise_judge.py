"""A language model as the judge: both ways round, against the untouched generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from flywheel.engines.contract import Sampling
from flywheel.evaluation.judges import PairwiseJudge, preference
from flywheel.instructions.prompts import Prompts
from flywheel.records import Completion, FinishReason, Task

TASK, OTHER = Task(instruction="Name an animal.", input="None"), Task(instruction="Name a fruit.", input="None")
SAMPLING = Sampling(temperature=1.0, top_p=1.0, max_tokens=64)


class Says:
    """An engine that answers as a function of the prompt says."""

    name = "says"

    def __init__(self, answer: Callable[[str], str]) -> None:
        self.answer, self.asked, self.closed = answer, list[str](), False

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        self.asked += prompts
        return [[Completion(text=self.answer(one), tokens=1, finish_reason=FinishReason.STOP)] for one in prompts]

    def close(self) -> None:
        self.closed = True


def judge(engine: Says, prompts: Prompts, opponents: dict[str, list[str]]) -> PairwiseJudge:
    return PairwiseJudge(engine, prompts, opponents, sampling=SAMPLING, seed=0)


def prefers(word: str) -> Callable[[str], str]:
    """Whoever's output has the word, wins."""
    return lambda prompt: f"Better: {'A' if word in prompt.split('<output_b>')[0] else 'B'}"


def test_whoever_wins_both_ways_round_gets_one_and_a_judge_who_likes_the_first_gets_a_half(prompts: Prompts) -> None:
    opponents = {TASK.task_id: ["a stone", "a cat"], OTHER.task_id: ["a catfish"]}
    rows = [(TASK, "a cat"), (TASK, "a rock"), (OTHER, "a fig")]
    assert judge(Says(prefers("cat")), prompts, opponents)(rows) == [1.0, 0.0, 0.0]
    assert judge(Says(lambda prompt: "Better: A"), prompts, opponents)(rows) == [0.5, 0.5, 0.5]
    assert judge(Says(lambda prompt: "Better: neither"), prompts, opponents)(rows) == [0.5, 0.5, 0.5]


def test_the_kth_output_meets_the_kth_of_the_untouched_generator(prompts: Prompts) -> None:
    engine = Says(lambda prompt: "Better: A")
    judge(engine, prompts, {TASK.task_id: ["zebra", "ibex"]})([(TASK, "mine"), (TASK, "yours"), (TASK, "third")])
    assert [("zebra" in one, "ibex" in one) for one in engine.asked[::2]] == [(True, False), (False, True), (True, False)]
    assert engine.asked[0].index("mine") < engine.asked[0].index("zebra")
    assert engine.asked[1].index("zebra") < engine.asked[1].index("mine")


def test_what_is_the_same_or_has_no_opponent_is_even_and_not_asked(prompts: Prompts) -> None:
    engine = Says(lambda prompt: "Better: A")
    assert judge(engine, prompts, {TASK.task_id: ["a cat"]})([(TASK, " a cat "), (OTHER, "a fig")]) == [0.5, 0.5]
    assert engine.asked == []


def test_a_pair_is_asked_once_however_often_it_comes(prompts: Prompts) -> None:
    engine = Says(prefers("cat"))
    assert judge(engine, prompts, {TASK.task_id: ["a stone"]})([(TASK, "a cat")] * 5) == [1.0] * 5
    assert len(engine.asked) == 2


def test_one_way_that_cannot_be_read_leaves_the_other_and_none_leaves_none(prompts: Prompts) -> None:
    def half(prompt: str) -> str:
        return "Better: A" if "cat" in prompt.split("<output_b>")[0] else "I cannot say."

    assert judge(Says(half), prompts, {TASK.task_id: ["a stone"]})([(TASK, "a cat")]) == [1.0]
    assert judge(Says(lambda prompt: "Hm."), prompts, {TASK.task_id: ["a stone"]})([(TASK, "a cat")]) == [None]


def test_a_judge_that_is_done_hangs_up(prompts: Prompts) -> None:
    engine = Says(prefers("cat"))
    judge(engine, prompts, {}).close()
    assert engine.closed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Better: A", 1.0),
        ("A is right, B is not.\nBetter: A\n", 1.0),
        ("**Better: B**", 0.0),
        ("better: b.", 0.0),
        ("Better: neither", 0.5),
        ("Better: both", 0.5),
        ("Better: A\nOn second thought\nBetter: B", 0.0),
        ("A", None),
        ("It would be better: apples are fruit.", None),
        ("", None),
    ],
)
def test_what_a_judgement_says(text: str, expected: float | None) -> None:
    assert preference(text) == expected
