"""A store full of records that nobody had to generate, written by its own public methods, chunk by chunk as stages write."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flywheel import config as configuration
from flywheel.records import (
    Candidate,
    Chunk,
    Facts,
    FinishReason,
    Metric,
    Model,
    ModelKind,
    Policy,
    Proposal,
    Round,
    Score,
    SeedTask,
    Selection,
    Stage,
    Task,
)
from flywheel.store.store import Store

WORDS = (
    "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna aliqua "
    "enim minim veniam quis nostrud exercitation ullamco laboris nisi aliquip ex ea commodo consequat duis aute irure"
).split()
PHRASES = 4_096
MEMBERS = tuple(
    Model(kind=ModelKind.MEMBER, name=name, path=name, digest=name * 12, facts=Facts(accuracy={name: 0.85}))
    for name in ("thumbs", "pairs", "form")
)
REWARD = Model(
    kind=ModelKind.REWARD, name="merged", path="merged", digest="0" * 64,
    facts=Facts(
        members=tuple(member.model_id for member in MEMBERS), weights={member.name: 1.0 for member in MEMBERS},
        accuracy={member.name: 0.85 for member in MEMBERS},
    ),
)  # fmt: skip
JUDGE = Model(kind=ModelKind.JUDGE, name="verifier", path="verifier", digest="1" * 64)
GENERATOR = Model(kind=ModelKind.GENERATOR, name="nano", path="generator", digest="2" * 64)
SEED = Task(instruction="Name a colour.", input="None")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much a store holds."""

    tasks: int
    """Of each round."""
    rounds: int = 1
    candidates: int = 4
    """Of each task."""
    held_out: int = 5_000
    samples: int = 4
    """Of each held-out task."""
    judged: int = 500
    """Tasks of a round whose candidates the judge is asked about."""
    chunk: int = 1_024
    """Tasks of a chunk, as `engine.chunk`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What one stage of all rounds wrote, and how long the store took."""

    rows: int = 0
    chunks: int = 0
    seconds: float = 0.0


class Texts:
    """Texts of made-up words, no two alike, as long as those of a general model."""

    def __init__(self) -> None:
        rng = random.Random(0)
        self._phrases = [" ".join(rng.choices(WORDS, k=11)) for _ in range(PHRASES)]

    def task(self, number: int, place: int) -> Task:
        """Some 75 characters of instruction and 100 of input."""
        said = self._phrases[(place * 7 + number) % PHRASES]
        rest = f"{self._phrases[place * 13 % PHRASES]} {WORDS[place % len(WORDS)]} {number} {place}"
        return Task(instruction=f"{said.capitalize()}.", input=rest)

    def output(self, place: int) -> str:
        """Some 200 characters."""
        return " ".join(self._phrases[(place * step + step) % PHRASES] for step in (3, 17, 29)) + f" {place}"


def fill(store: Store, size: Size) -> dict[str, Written]:
    """r0, and rounds with all that stages write but trained models; beside r1 a control. Returns what it cost by stage."""
    store.migrate()
    for model in (*MEMBERS, REWARD, JUDGE, GENERATOR):
        store.record_model(model)
    store.set_seeds("seeds", [SeedTask(task=SEED)])
    written: dict[str, Written] = {}
    for number in range(size.rounds + 1):
        _open(store, f"r{number}", number)
        stages = _stages_of(number, size) if number else {}
        stages[Stage.EVALUATE] = _evaluated(number, size)
        for stage, chunks in stages.items():
            _write(store, f"r{number}", stage, chunks, written)
        _finish(store, f"r{number}", number)
        if number == 1:
            _open(store, "r1-random", 1, policy=Policy.RANDOM)
            _write(store, "r1-random", Stage.EVALUATE, _evaluated(number / 2, size), written)
            _finish(store, "r1-random", number / 2)
    return written


def _open(store: Store, name: str, number: int, *, policy: Policy = Policy.BEST) -> None:
    settings = configuration.load(configuration.find("nano"), []).model_dump(mode="json")
    store.open_round(
        Round(
            round=name, number=number, parent=f"r{number - 1}" if number else None, status="running", seed=0, fingerprint="f",
            identity={"digest.heldout": "h", "digest.prompts": "p"}, config=settings, generator_in=GENERATOR.model_id,
            generator_out=GENERATOR.model_id, reward_model=REWARD.model_id, judge=JUDGE.model_id, versions={}, policy=policy,
        )
    )  # fmt: skip


def _finish(store: Store, name: str, level: float) -> None:
    figures = [
        Metric(name=f"heldout.{one}", value=0.04 * level, low=0.04 * level - 0.02, high=0.04 * level + 0.02)
        for one in ("judge", "reward")
    ]
    store.finish_round(name, figures, None)


def _write(store: Store, name: str, stage: Stage, chunks: Iterator[list[Any]], written: dict[str, Written]) -> None:
    """Commit a stage's rows; the clock runs while the store has them."""
    store.progress(name, stage)
    so_far = written.get(stage, Written())
    for rows in chunks:
        started = time.perf_counter()
        store.commit(name, stage, Chunk(rows=rows, last=False, tokens=len(rows) * 30), seconds=0.1)
        so_far = Written(
            rows=so_far.rows + len(rows), chunks=so_far.chunks + 1, seconds=so_far.seconds + time.perf_counter() - started
        )
    written[stage] = so_far
    store.commit(name, stage, Chunk(rows=[], last=True), seconds=0.0)


def _stages_of(number: int, size: Size) -> dict[Stage, Iterator[list[Any]]]:
    texts = Texts()
    spans = [range(start, min(start + size.chunk, size.tasks)) for start in range(0, size.tasks, size.chunk)]
    blocks = [range(start, min(start + 4_096, size.tasks)) for start in range(0, size.tasks, 4_096)]
    members = ((member, block) for member in MEMBERS for block in blocks)
    picks = ([row for place in block for row in _selections(texts, number, place, size)] for block in blocks)
    scored = ([_score(texts.task(number, place), _best(place, size), one) for place in block] for one, block in members)
    return {
        Stage.PROPOSE: ([_proposal(texts, number, place) for place in span] for span in spans),
        Stage.ANSWER: ([row for place in span for row in _candidates(texts, number, place, size)] for span in spans),
        Stage.SCORE: ([row for place in span for row in _scores(texts, number, place, REWARD, size)] for span in spans),
        Stage.SELECT: itertools.chain(picks, scored),
        Stage.JUDGE: (
            [row for place in span if place < size.judged for row in _scores(texts, number, place, JUDGE, size)]
            for span in spans
            if span.start < size.judged
        ),
    }


def _proposal(texts: Texts, number: int, place: int) -> Proposal:
    task = texts.task(number, place)
    return Proposal(attempt=place, raw=task.instruction, demos=(SEED.task_id,) * 3, tokens=40, task=task, kind="write")


def _candidates(texts: Texts, number: int, place: int, size: Size) -> list[Candidate]:
    task_id = texts.task(number, place).task_id
    return [
        Candidate(
            task_id=task_id, candidate=one, output=texts.output(place * size.candidates + one),
            finish_reason=FinishReason.STOP if (place + one) % 50 else FinishReason.LENGTH, tokens=40 + (place + one) % 20,
            logprob=-0.7, seed=place // size.chunk,
        )
        for one in range(size.candidates)
    ]  # fmt: skip


def _scores(texts: Texts, number: int, place: int, model: Model, size: Size) -> list[Score]:
    task = texts.task(number, place)
    return [_score(task, (place, one), model) for one in range(size.candidates)]


def _score(task: Task, at: tuple[int, int], model: Model) -> Score:
    return Score(task_id=task.task_id, candidate=at[1], model_id=model.model_id, score=_noise(*at, len(model.name)))


def _best(place: int, size: Size) -> tuple[int, int]:
    """The task's place and the finished candidate that the reward model likes best."""
    finished = [one for one in range(size.candidates) if (place + one) % 50]
    return place, max(finished, key=lambda one: _noise(place, one, len(REWARD.name)))


def _selections(texts: Texts, number: int, place: int, size: Size) -> list[Selection]:
    task_id = texts.task(number, place).task_id
    picks = {Policy.BEST: _best(place, size)[1], Policy.FIRST: 0} | {
        policy: (place + step) % size.candidates
        for step, policy in enumerate((Policy.RANDOM, Policy.MAX_LOGPROB, Policy.LONGEST))
    }
    return [Selection(task_id=task_id, policy=policy, candidate=one, margin=0.25) for policy, one in picks.items()]


def _evaluated(level: float, size: Size) -> Iterator[list[Any]]:
    """Held-out outputs and what reward model and judge gave them, a little more from round to round."""
    texts = Texts()
    for start in range(0, size.held_out, size.chunk):
        places = [(place, one) for place in range(start, min(start + size.chunk, size.held_out)) for one in range(size.samples)]
        yield [
            row
            for place, one in places
            for row in (
                Candidate(
                    task_id=f"{place:016x}", candidate=one, output=texts.output(place * size.samples + one + int(level * 10)),
                    finish_reason=FinishReason.STOP, tokens=40 + place % 20, logprob=-0.7, seed=start,
                ),
                *(
                    Score(
                        task_id=f"{place:016x}", candidate=one, model_id=model.model_id,
                        score=0.04 * level + _noise(place, one, int(level * 10)),
                    )
                    for model in (REWARD, JUDGE)
                ),
            )
        ]  # fmt: skip


def _noise(*names: int) -> float:
    """A number from 0 to 1 that looks like chance."""
    mixed = 0
    for name in names:
        mixed = (mixed ^ name) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 29
    return mixed / 2**64
