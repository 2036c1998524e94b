"""A small store for the report: r0, two rounds, a control and a third round that is started, with invented figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flywheel import config as configuration
from flywheel.records import (
    Candidate,
    Chunk,
    Facts,
    FinishReason,
    Metric,
    Model,
    ModelKind,
    Origin,
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

HOSTILE = "<script>alert(1)</script></script><img src=x onerror=alert(2)>&amp;\u2028"
TASKS, CANDIDATES, HELD_OUT = 60, 3, 40
SEED = Task(instruction="Name a colour.", input="None")
MEMBERS = tuple(
    Model(kind=ModelKind.MEMBER, name=name, path=name, digest=name * 12, facts=Facts(rows=100, accuracy={"pairs": 0.8}))
    for name in ("thumbs", "pairs")
)
REWARD = Model(
    kind=ModelKind.REWARD, name="merged", path="reward", digest="0" * 64,
    facts=Facts(
        members=tuple(member.model_id for member in MEMBERS), weights={"thumbs": 1.0, "pairs": 0.5},
        merge={"method": "ties", "density": 0.5}, accuracy={"pairs": 0.85},
    ),
)  # fmt: skip
JUDGE = Model(kind=ModelKind.JUDGE, name="verifier", path="judge", digest="1" * 64)
GENERATOR = Model(kind=ModelKind.GENERATOR, name="nano", path="generator", digest="2" * 64)


def task(number: int, place: int) -> Task:
    text = HOSTILE if (number, place) == (1, 0) else f"Write the word {place} of round {number}."
    return Task(instruction=text, input=f"word{place}", constraints="None")


def build(folder: Path) -> Store:
    """r0, r1, r1-random and r2 are done, r3 has proposed its tasks."""
    store = build_r0(folder)
    for name, level in (("r1", 0.3), ("r1-random", 0.1), ("r2", 0.5)):
        number = int(name[1])
        open_round(store, name, number, parent=f"r{number - 1}", policy=Policy.RANDOM if "-" in name else Policy.BEST)
        if "-" not in name:
            propose(store, name, number)
            answer(store, name, number)
        evaluate(store, name, level)
    open_round(store, "r3", 3, parent="r2")
    propose(store, "r3", 3)
    return store


def build_r0(folder: Path) -> Store:
    """Only r0, evaluated."""
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder / "flywheel.duckdb")
    store.migrate()
    for model in (*MEMBERS, REWARD, JUDGE, GENERATOR):
        store.record_model(model)
    store.set_seeds("seeds", [SeedTask(task=SEED)])
    open_round(store, "r0", 0, parent=None)
    evaluate(store, "r0", 0.0)
    return store


def open_round(store: Store, name: str, number: int, *, parent: str | None, policy: Policy = Policy.BEST) -> None:
    config = configuration.load(configuration.find("nano"), ["evaluation.resamples=200"]).model_dump(mode="json")
    store.open_round(
        Round(
            round=name, number=number, parent=parent, status="running", seed=0, fingerprint="f",
            identity={"digest.heldout": "h"}, config=config, generator_in=GENERATOR.model_id, generator_out=None,
            reward_model=REWARD.model_id, judge=JUDGE.model_id, versions={}, policy=policy,
        )
    )  # fmt: skip


def propose(store: Store, name: str, number: int) -> None:
    store.progress(name, Stage.PROPOSE)
    rows = [
        Proposal(attempt=place, raw=task(number, place).instruction, demos=(SEED.task_id,), tokens=7, task=task(number, place))
        for place in range(TASKS)
    ]
    dropped = Proposal(attempt=TASKS, raw=HOSTILE, demos=(), tokens=1, task=None, reason="missing field")
    diversity = {
        "sample": 60,
        "distinct_1": 0.2,
        "distinct_2": 0.4,
        "compression_ratio": 3.0,
        "self_bleu": 0.6,
        "kinds": 1,
        "novel": 0.5,
    }
    metrics = [Metric(name=f"tasks.{measure}", value=value) for measure, value in diversity.items()]
    store.commit(name, Stage.PROPOSE, Chunk(rows=[*rows, dropped], last=True, tokens=400, metrics=metrics), seconds=2.0)


def answer(store: Store, name: str, number: int) -> None:
    """The last candidate wins, except for the second task, whose last was cut; the judge likes the first best of task 3."""
    for stage in (Stage.ANSWER, Stage.SCORE, Stage.SELECT, Stage.JUDGE, Stage.PARAPHRASE):
        store.progress(name, stage)
    candidates, scores, selections, judged = [], [], [], []
    for place in range(TASKS):
        task_id, last = task(number, place).task_id, CANDIDATES - 1
        winner = last - 1 if place == 1 else last
        for candidate in range(CANDIDATES):
            cut = place == 1 and candidate == last
            candidates.append(
                Candidate(
                    task_id=task_id, candidate=candidate, output=HOSTILE if place == 0 else f"answer {candidate} of {place}",
                    finish_reason=FinishReason.LENGTH if cut else FinishReason.STOP, tokens=candidate + 2, logprob=-0.5, seed=0,
                )
            )  # fmt: skip
            scores.append(Score(task_id=task_id, candidate=candidate, model_id=REWARD.model_id, score=candidate + place / 100))
            likes = 1.0 if (candidate == 0) == (place == 3) else 0.25
            judged.append(Score(task_id=task_id, candidate=candidate, model_id=JUDGE.model_id, score=likes))
        scores += [Score(task_id=task_id, candidate=winner, model_id=member.model_id, score=0.75) for member in MEMBERS]
        selections.append(Selection(task_id=task_id, policy=Policy.BEST, candidate=winner, margin=1.0))
        selections.append(Selection(task_id=task_id, policy=Policy.FIRST, candidate=0, margin=None))
    store.commit(name, Stage.ANSWER, Chunk(rows=candidates, last=True, tokens=900, prompt_tokens=50), seconds=3.0, cost=0.25)
    store.commit(name, Stage.SCORE, Chunk(rows=scores, last=True), seconds=1.0)
    store.commit(name, Stage.SELECT, Chunk(rows=selections, last=True), seconds=0.1)
    store.commit(name, Stage.JUDGE, Chunk(rows=judged, last=True), seconds=0.5)
    reworded = Proposal(
        attempt=0, raw="Say it.", demos=(), tokens=3, task=Task(instruction="Say it otherwise.", input="word5"),
        origin=Origin.PARAPHRASED, parent=task(number, 5).task_id,
    )  # fmt: skip
    store.commit(name, Stage.PARAPHRASE, Chunk(rows=[reworded], last=True), seconds=0.5)


def evaluate(store: Store, name: str, level: float) -> None:
    store.progress(name, Stage.EVALUATE)
    noise = np.random.default_rng(0).normal(size=(HELD_OUT, 2)) / 20
    outputs = [
        Candidate(
            task_id=f"h{place:02}", candidate=number, output=f"word {place} {number}", finish_reason=FinishReason.STOP,
            tokens=4, logprob=None, seed=0,
        )
        for place in range(HELD_OUT)
        for number in range(2)
    ]  # fmt: skip
    scores = [
        Score(
            task_id=output.task_id, candidate=output.candidate, model_id=model.model_id,
            score=level + float(noise[int(output.task_id[1:]), output.candidate]),
        )
        for output in outputs
        for model in (REWARD, JUDGE)
    ]  # fmt: skip
    store.commit(name, Stage.EVALUATE, Chunk(rows=[*outputs, *scores], last=True, tokens=320), seconds=1.5)
    metrics = [
        Metric(name=f"heldout.{scorer}", value=level, low=level - 0.05, high=level + 0.05) for scorer in ("judge", "reward")
    ]
    store.finish_round(name, metrics, None)
