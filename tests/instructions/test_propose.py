"""Proposing: exactly as many as asked, every drop with its reason, the best of several, paraphrases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from flywheel.config import InstructionsConfig, ParaphrasesConfig
from flywheel.core.assets import asset
from flywheel.engines.contract import Engine
from flywheel.errors import DataError
from flywheel.instructions.demos import Demos
from flywheel.instructions.filters import Filters
from flywheel.instructions.paraphrase import paraphrase
from flywheel.instructions.prompts import Prompts
from flywheel.instructions.propose import propose
from flywheel.instructions.tasks import read_reworded, read_seeds
from flywheel.records import Chunk, Origin, Proposal, ProposalProgress, Task, Winner
from tests.instructions.scripts import DIFFERENT, RECORDED, ScriptedEngine, task_text, writing

SEEDS = read_seeds(asset("data/seeds.jsonl"))
PROMPTS = Prompts(asset("prompts"))
NOTHING_DONE = ProposalProgress(attempts=0, kept=0, tokens=0)


def run(
    engine: Engine, *, chunk: int = 64, done: ProposalProgress = NOTHING_DONE, held_out: Sequence[Task] = (),
    known: Sequence[Task] = (), best: Any = None, **config: Any,
) -> list[Proposal]:  # fmt: skip
    return [row for chunk in chunks_of(engine, chunk, done, held_out, known, best, **config) for row in chunk.rows]


def chunks_of(
    engine: Engine,
    chunk: int,
    done: ProposalProgress,
    held_out: Sequence[Task],
    known: Sequence[Task],
    best: Any,
    **config: Any,
) -> Iterator[Chunk[Proposal]]:
    settings = InstructionsConfig(**config)
    filters = Filters(settings.filters, protected=held_out, known=known)
    return propose(
        writing(engine), PROMPTS, settings, demos=Demos(settings, SEEDS, names=(0,)), filters=filters,
        best=best or (lambda tasks: [filters.novelty(task) for task in tasks]), names=(0, "r1"), chunk=chunk, done=done,
    )  # fmt: skip


def reasons(rows: Sequence[Proposal]) -> Counter[str]:
    return Counter(row.reason or "kept" for row in rows)


def test_recorded_completions_good_and_broken_are_kept_and_dropped_for_what_they_are(tmp_path: Path) -> None:
    written = [{"text": one["text"], "finish_reason": one["finish_reason"]} for one in RECORDED if one["style"] == "completion"]
    demo = SEEDS[0].task
    first = next(Task(**one["expected"]) for one in RECORDED if one["style"] == "completion" and one["expected"])
    held_out = Task(instruction="Name the boat in the picture of the harbour.", input="a small red one with two masts")
    written += [
        {"text": task_text(first.instruction, first.input, "Another constraint.")},
        {"text": task_text(first.instruction, "quite another input")},
        {"text": task_text("Name the boat in the old picture of the harbour.", "a small red one with two masts")},
        {"text": task_text(demo.instruction, demo.input)},
        {"text": " I'm sorry, but I can't write that.\nInput: None\nConstraints: None"},
    ]
    size = len(written)
    chunks = chunks_of(ScriptedEngine(written), size, NOTHING_DONE, [held_out], [demo], None, tasks=size)
    rows = next(chunks).rows
    assert len(rows) == size
    assert reasons(rows) == EXPECTED
    assert EXPECTED.total() == 90
    assert [row.raw for row in rows] == [one["text"].split("\nExample ")[0] for one in written]
    # What is kept is what the fixture says was written.
    expected = [Task(**one["expected"]) if one["expected"] else None for one in RECORDED if one["style"] == "completion"]
    assert all(row.task == task for row, task in zip(rows, expected, strict=False) if row.reason is None)


EXPECTED = Counter(
    {
        "kept": 60,
        "missing field": 18,
        "truncated": 6,
        "refusal": 2,
        "exact-duplicate": 2,
        "near-duplicate": 1,
        "decontamination": 1,
    }
)
"""Of the 85 recorded ones 60 are tasks, of the five added to them none."""


@pytest.mark.parametrize("chunk", [1, 4, 7, 64])
def test_exactly_as_many_are_kept_as_asked_for(tmp_path: Path, chunk: int) -> None:
    broken = [{"text": " no fields at all"}]
    script = [line for text in DIFFERENT for line in [{"text": text}, *broken, *broken]]
    rows = run(ScriptedEngine(script), tasks=11, chunk=chunk)
    assert sum(row.reason is None for row in rows) == 11
    assert set(reasons(rows)) <= {"kept", "missing field", "surplus"}
    assert [row.attempt for row in rows] == list(range(len(rows)))


def test_the_last_chunk_asks_for_what_will_probably_do(tmp_path: Path) -> None:
    """With one good text of three, single prompts for the last task would take three calls on average."""
    sizes: list[int] = []
    engine = ScriptedEngine([line for text in DIFFERENT for line in ({"text": text}, {"text": "-"}, {"text": "-"})])
    generate = engine.generate
    engine.generate = lambda prompts, **more: sizes.append(len(prompts)) or generate(prompts, **more)  # type: ignore[method-assign, func-returns-value]
    run(engine, tasks=12, chunk=12)
    assert sizes == [12, 12, 12]


def test_caps_on_attempts_and_tokens_are_named(tmp_path: Path) -> None:
    engine = ScriptedEngine([{"text": DIFFERENT[0]}])
    for cap, quoted in (({"max_attempts": 4}, "20 attempts (instructions.max_attempts = 4)"),
                        ({"max_total_tokens": 60}, "instructions.max_total_tokens = 60")):  # fmt: skip
        with pytest.raises(DataError) as error:
            run(engine, tasks=5, **cap)
        assert quoted in error.value.message
        assert "1 of 5 tasks" in error.value.message
        assert "flywheel sql" in error.value.hint


def test_an_interrupted_stage_goes_on_with_the_same_demos(tmp_path: Path) -> None:
    whole = run(ScriptedEngine([{"text": text} for text in DIFFERENT]), tasks=12, chunk=4)
    done = ProposalProgress(attempts=4, kept=4, tokens=sum(row.tokens for row in whole[:4]))
    known = [row.task for row in whole[:4] if row.task]
    rest = run(ScriptedEngine([{"text": text} for text in DIFFERENT[4:]]), tasks=12, chunk=4, done=done, known=known)
    assert rest == whole[4:]


def test_of_several_tasks_for_one_prompt_the_best_is_kept(tmp_path: Path) -> None:
    script = [{"text": text} for text in [DIFFERENT[0], DIFFERENT[1], "broken", DIFFERENT[2]]]
    rows = run(ScriptedEngine(script), tasks=1, best_of=4, best=lambda tasks: [1.0, 3.0, 2.0])
    assert [row.reason for row in rows] == ["not the best", None, "missing field", "not the best"]
    assert len({row.demos for row in rows}) == 1


def test_the_most_novel_task_is_kept(tmp_path: Path) -> None:
    known = Task(instruction="Sort the words in the list from a to z.", input="x")
    near, far = task_text("Sort the letters in the list from z to a."), task_text("How many legs has a spider?")
    rows = run(ScriptedEngine([{"text": near}, {"text": far}]), tasks=1, best_of=2, known=[known])
    assert [row.reason for row in rows] == ["not the best", None]


def test_tasks_after_the_last_wanted_one_are_surplus(tmp_path: Path) -> None:
    script = [{"text": "-"}, {"text": DIFFERENT[0]}, *({"text": text} for text in DIFFERENT[1:])]
    rows = run(ScriptedEngine(script), tasks=3, chunk=3)
    assert [row.reason for row in rows] == ["missing field", None, None, None, "surplus"]


WINNERS = [
    Winner(task=Task(instruction="Sort the words.", input="b, a", constraints="One line."), output="a, b"),
    Winner(task=Task(instruction="How many words are there?", input="c, d"), output="2"),
]


def alternatives(tmp_path: Path, texts: Sequence[dict[str, str]], *, fall: float | None = None, **more: Any) -> list[Proposal]:
    config = ParaphrasesConfig(per_winner=len(texts) // 2, max_reward_fall=fall)
    filters = Filters(InstructionsConfig().filters, protected=more.pop("held_out", ()), known=[one.task for one in WINNERS])
    chunks = paraphrase(
        writing(ScriptedEngine(texts)), PROMPTS, config, WINNERS, demos=read_reworded(asset("data/paraphrases.jsonl")),
        filters=filters, reward=more.pop("reward", lambda rows: [0.0] * len(rows)), names=(0, "r1"), chunk=8, done=0,
    )  # fmt: skip
    return [row for chunk in chunks for row in chunk.rows]


def test_paraphrases_keep_the_input_and_know_their_parent(tmp_path: Path) -> None:
    rows = alternatives(tmp_path, [{"text": " Put these in order."}, {"text": " Count them."}])
    assert [row.task for row in rows] == [
        Task(instruction="Put these in order.", input="b, a", constraints="One line."),
        Task(instruction="Count them.", input="c, d"),
    ]
    assert [row.parent for row in rows] == [one.task.task_id for one in WINNERS]
    assert all(row.origin == Origin.PARAPHRASED and row.reason is None for row in rows)


def test_paraphrases_are_filtered(tmp_path: Path) -> None:
    texts = [
        {"text": " SORT the words!"}, {"text": ""}, {"text": " Put these", "finish_reason": "length"}, {"text": " Order them."},
        {"text": " Order them."}, {"text": " I'm sorry, I cannot do that."}, {"text": " Count what is in the box."},
        {"text": " Tell how many."},
    ]  # fmt: skip
    held_out = Task(instruction="Count what is in the box.", input="c, d")
    rows = alternatives(tmp_path, texts, held_out=[held_out])
    assert [row.reason for row in rows] == [
        "unchanged", "missing field", "truncated", None,
        None, "refusal", "decontamination", None,
    ]  # fmt: skip


def test_a_paraphrase_under_which_the_winner_is_worth_less_is_dropped(tmp_path: Path) -> None:
    def reward(rows: Sequence[tuple[Task, str]]) -> list[float]:
        return [-1.0 if "backwards" in task.instruction else 0.2 for task, _ in rows]

    texts = [{"text": " Put these in order."}, {"text": " Write them backwards."}] * 2
    rows = alternatives(tmp_path, texts, fall=0.5, reward=reward)
    assert [row.reason for row in rows] == [None, "reward falls"] * 2
    assert all(row.reason is None for row in alternatives(tmp_path, texts, reward=reward))
