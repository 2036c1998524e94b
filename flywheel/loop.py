"""One turn of the wheel, top to bottom: propose, answer, score, select, train, evaluate.

Every stage yields chunks; a chunk's rows and the stage's progress are one transaction. A killed round
is continued by the same call, from the chunk after the last committed one.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from typing import Any

import numpy as np

from flywheel.config import Config
from flywheel.engines.engine import Engine, Sampling, load
from flywheel.errors import ConfigError, ModelError
from flywheel.evaluation.compare import compare, incomparable
from flywheel.evaluation.held_out import evaluate
from flywheel.evaluation.judge import ask, load_judge
from flywheel.evaluation.statistics import bootstrap_mean
from flywheel.files import digest_files, digest_model, publish
from flywheel.instructions.propose import propose
from flywheel.instructions.tasks import read_seeds, read_tasks
from flywheel.instructions.text import Prompts
from flywheel.models import local_folder
from flywheel.progress import Counter, Progress
from flywheel.quiet import silence
from flywheel.records import (
    Arm,
    Candidate,
    Chunk,
    FinishReason,
    Metric,
    Model,
    ModelKind,
    Proposal,
    Round,
    Score,
    Selection,
    Stage,
    Task,
)
from flywheel.reward.build import build_reward_model, load_scorer
from flywheel.reward.model import RewardModel
from flywheel.reward.text import Answer
from flywheel.seeds import derive
from flywheel.selection import select_all
from flywheel.training import train_generator, training_examples
from flywheel.workspace import Workspace

LIBRARIES = ("flywheel", "torch", "transformers", "trl", "datasets", "mergekit", "ctranslate2", "duckdb")


def turn(workspace: Workspace, config: Config, progress: Progress, *, restart: bool = False) -> str:
    """Build what is missing, evaluate r0 if need be, run or resume the next round; returns its name.

    ``restart`` throws an unfinished round away and begins it anew.
    """
    store = workspace.store
    silence()
    with workspace.at_work():
        store.migrate()
        check_inputs(config)
        if not restart:
            _refuse_changes(store.rounds(), config.identity())
        reward = build_reward_model(config, workspace, progress)
        if restart:
            for unfinished in [one for one in store.rounds() if one.status != "done"]:
                store.discard_round(unfinished.round)
        for _ in range(2):
            current = _open_round(workspace, config, reward)
            try:
                run_round(Run(workspace=workspace, config=config, progress=progress, round=current))
            except Exception:
                store.set_status(current.round, "failed")
                raise
            if current.number > 0:
                break
    return current.round


def run_round(run: Run) -> None:
    """All stages of one round; those that are finished are passed over. r0 is evaluated and nothing else."""
    if run.round.number > 0:
        run.stage(Stage.PROPOSE, run.propose, total=run.config.instructions.tasks, unit="tasks")
        run.stage(Stage.ANSWER, run.answer, total=run.config.instructions.tasks * run.config.sampling.n, unit="candidates")
        run.stage(Stage.SCORE, run.score, total=run.config.instructions.tasks * run.config.sampling.n, unit="candidates")
        run.stage(Stage.SELECT, run.select, total=run.config.instructions.tasks, unit="tasks")
        run.stage(Stage.TRAIN, run.train, total=None, unit="steps")
    run.stage(Stage.EVALUATE, run.evaluate, total=len(run.held_out) * run.config.evaluation.samples, unit="samples")
    run.conclude()


@dataclass(kw_only=True)
class Run:
    """One round at work: what its stages share, loaded when first needed."""

    workspace: Workspace
    config: Config
    progress: Progress
    round: Round

    @cached_property
    def prompts(self) -> Prompts:
        return Prompts(self.config.path(self.config.prompts))

    @cached_property
    def seed_sets(self) -> dict[str, list[Task]]:
        return read_seeds(self.config.path(self.config.instructions.seeds))

    @cached_property
    def held_out(self) -> list[Task]:
        return read_tasks(self.config.path(self.config.evaluation.tasks))

    @cached_property
    def scorer(self) -> RewardModel:
        return load_scorer(self.workspace.locate(self.workspace.store.model(self.round.reward_model)), self.config)

    @cached_property
    def engine(self) -> Engine:
        """The engine of the generator that writes this round's tasks and candidates."""
        return self._engine(self.round.generator_in)

    def _engine(self, model_id: str) -> Engine:
        model = self.workspace.store.model(model_id)
        return load(
            self.config.engine,
            self.workspace.locate(model),
            cache=self.workspace.models / "converted",
            digest=model.digest[:12],
        )

    def stage(
        self, stage: Stage, produce: Callable[[int, Counter], Iterator[Chunk[Any]]], *, total: int | None, unit: str
    ) -> None:
        """Run what is left of a stage, committing chunk by chunk. ``produce`` starts after the chunks done."""
        store, name = self.workspace.store, self.round.round
        before = store.progress(name, stage)
        if before.finished:
            return
        with self.progress.work(f"{name} {stage}", total=total, unit=unit) as counter:
            started = time.monotonic()
            for chunk in produce(before.chunks, counter):
                store.commit(name, stage, chunk, seconds=time.monotonic() - started)
                started = time.monotonic()

    def propose(self, done: int, counter: Counter) -> Iterator[Chunk[Proposal]]:
        """New tasks, until as many are kept as the config asks for."""
        store, name = self.workspace.store, self.round.round
        attempts, kept = store.proposals_so_far(name)
        for chunk in propose(
            self.engine,
            self.prompts,
            self.config.instructions,
            sets=self.seed_sets,
            held_out=self.held_out,
            known=store.known_tasks(),
            names=(self.config.seed, name, "propose"),
            chunk=self.config.engine.chunk,
            attempts=attempts,
            kept=kept,
        ):
            kept += sum(row.reason is None for row in chunk.rows)
            counter.to(kept)
            yield chunk

    def answer(self, done: int, counter: Counter) -> Iterator[Chunk[Candidate]]:
        """N candidates for each kept task."""
        config = self.config.sampling
        sampling = Sampling(temperature=config.temperature, top_p=config.top_p, max_tokens=config.max_tokens)
        tasks = [one.task for one in self.workspace.store.tasks(self.round.round)]
        for index, asked, last in self._chunks(tasks, done):
            seed = derive(self.config.seed, self.round.round, "answer", index)
            written = self.engine.generate(
                [self.prompts.answer(task) for task in asked], n=config.n, sampling=sampling, seed=seed
            )
            rows = [
                Candidate(
                    task_id=task.task_id, candidate=place, output=one.text.strip(), finish_reason=one.finish_reason,
                    tokens=one.tokens, logprob=one.logprob, seed=seed,
                )
                for task, group in zip(asked, written, strict=True)
                for place, one in enumerate(group)
            ]  # fmt: skip
            counter.to((index * self.config.engine.chunk + len(asked)) * config.n)
            yield Chunk(rows=rows, last=last, tokens=sum(row.tokens for row in rows))

    def score(self, done: int, counter: Counter) -> Iterator[Chunk[Score]]:
        """The merged reward model's score of every candidate."""
        candidates = self.workspace.store.candidates(self.round.round)
        tasks = [one.task for one in self.workspace.store.tasks(self.round.round)]
        for index, asked, last in self._chunks(tasks, done):
            rows = [(task, one) for task in asked for one in candidates[task.task_id]]
            yield Chunk(rows=_scores(self.scorer, self.round.reward_model, rows), last=last)
            counter.to((index * self.config.engine.chunk + len(asked)) * self.config.sampling.n)

    def select(self, done: int, counter: Counter) -> Iterator[Chunk[Selection | Score]]:
        """Every arm's pick for every task, and what each member gave the winners."""
        store, name = self.workspace.store, self.round.round
        scored = store.scored(name, self.round.reward_model)
        selections = select_all(scored, self.config.seed, name)
        tasks = {one.task.task_id: one.task for one in store.tasks(name)}
        best = [
            (tasks[pick.task_id], scored[pick.task_id][pick.candidate].candidate) for pick in selections if pick.arm == Arm.BEST
        ]
        members = [store.model(member) for member in store.model(self.round.reward_model).numbers["members"]]
        opinions = [
            opinion
            for member in members
            for opinion in _scores(load_scorer(self.workspace.locate(member), self.config), member.model_id, best)
        ]
        yield Chunk(rows=[*selections, *opinions], last=True)
        counter.to(len(tasks))

    def train(self, done: int, counter: Counter) -> Iterator[Chunk[Model]]:
        """The next generator, fine-tuned on the winners."""
        store, name, config = self.workspace.store, self.round.round, self.config.training
        earlier = [one.round for one in store.rounds() if 0 < one.number < self.round.number]
        seeds = {task.task_id: task for tasks in self.seed_sets.values() for task in tasks}
        examples = training_examples(
            store.winners([*earlier, name] if config.data == "accumulate" else [name]),
            [([seeds[demo] for demo in one.demos], one.task) for one in store.tasks(name)],
            self.prompts,
            proposal_share=config.proposal_share,
            names=(self.config.seed, name, "train"),
        )
        start_id = self.round.generator_in if config.start == "previous" else store.rounds()[0].generator_in
        folder = self.workspace.models / f"generator-{name}"
        with publish(folder) as unfinished:
            numbers = train_generator(
                str(self.workspace.locate(store.model(start_id))), unfinished, examples, config,
                seed=derive(self.config.seed, name, "train"), advance=counter.to,
            )  # fmt: skip
        model = Model(
            kind=ModelKind.GENERATOR, name=name, path=self.workspace.inside(folder), digest=digest_model(folder),
            parent=start_id, recipe=config.model_dump(), numbers=numbers,
        )  # fmt: skip
        self.round = replace(self.round, generator_out=model.model_id)
        yield Chunk(rows=[model], last=True)

    def evaluate(self, done: int, counter: Counter) -> Iterator[Chunk[Any]]:
        """Held-out outputs of the trained generator, scored by the reward model and by the judge."""
        config, sampling = self.config.evaluation, self.config.sampling
        generator = next(one.generator_out for one in self.workspace.store.rounds() if one.round == self.round.round)
        assert generator is not None
        chunks = evaluate(
            self._engine(generator),
            self.scorer,
            partial(ask, load_judge(config.judge), config.judge),
            self.prompts,
            self.held_out,
            samples=config.samples,
            sampling=Sampling(temperature=sampling.temperature, top_p=sampling.top_p, max_tokens=sampling.max_tokens),
            seed=self.config.seed,
            scorer_id=self.round.reward_model,
            judge_id=self.round.judge,
            chunk=self.config.engine.chunk,
            done=done,
        )
        for index, chunk in enumerate(chunks, start=done):
            yield chunk
            counter.to(min((index + 1) * self.config.engine.chunk, len(self.held_out)) * config.samples)

    def conclude(self) -> None:
        """Record the round's figures and its verdict against its parent."""
        store, config, name = self.workspace.store, self.config.evaluation, self.round.round
        metrics = []
        for metric, model_id in (("heldout.judge", self.round.judge), ("heldout.reward", self.round.reward_model)):
            means = np.array([np.mean(scores) for scores in store.held_out_scores(name, model_id).values()])
            if means.size:
                estimate = bootstrap_mean(
                    means, confidence=config.confidence, resamples=config.resamples, seed=derive(metric, name)
                )
                metrics.append(Metric(name=metric, **asdict(estimate)))
        verdict = None
        parent = next((one for one in store.rounds() if one.round == self.round.parent), None)
        if parent and len(metrics) == 2 and not incomparable(parent, self.round):
            comparison = compare(store, parent.round, name, unfinished=True)
            verdict = (parent.round, str(comparison.verdict), comparison.as_json())
        store.finish_round(name, metrics, verdict)

    def _chunks(self, tasks: Sequence[Task], done: int) -> Iterator[tuple[int, Sequence[Task], bool]]:
        """Index, tasks and whether they are the last, of every chunk after the first ``done``."""
        size = self.config.engine.chunk
        starts = range(0, len(tasks), size)
        for index in range(done, len(starts)):
            yield index, tasks[starts[index] : starts[index] + size], index == len(starts) - 1


def _scores(scorer: RewardModel, model_id: str, rows: Sequence[tuple[Task, Candidate]]) -> list[Score]:
    answers = [Answer(task=task, output=one.output, finished=one.finish_reason == FinishReason.STOP) for task, one in rows]
    return [
        Score(task_id=one.task_id, candidate=one.candidate, model_id=model_id, score=score)
        for (_, one), score in zip(rows, scorer.score(answers), strict=True)
    ]


def check_inputs(config: Config) -> None:
    """Raise for what a round would stumble over late, before minutes are spent on it."""
    seeds = read_seeds(config.path(config.instructions.seeds))
    tasks = read_tasks(config.path(config.evaluation.tasks))[:3]
    local_folder(config.model(config.generator))
    prompts = Prompts(config.path(config.prompts))
    prompts.propose(next(iter(seeds.values()))[:3])
    prompts.answer(tasks[0])
    ask(load_judge(config.evaluation.judge), config.evaluation.judge, [(task, "nothing") for task in tasks])


# Which round is next, and whether it is still the one that was begun


def _open_round(workspace: Workspace, config: Config, reward: Model) -> Round:
    """The unfinished round, or a new one after the last; raises where its identity has changed."""
    store = workspace.store
    rounds = store.rounds()
    unfinished = next((one for one in rounds if one.status != "done"), None)
    parent = next((one for one in reversed(rounds) if one.status == "done"), None)
    generator = _generator_after(parent, workspace, config)
    heldout = config.path(config.evaluation.tasks)
    tasks = read_tasks(heldout)
    identity = config.identity() | {
        "digest.generator": generator.digest,
        "digest.reward": reward.digest,
        "digest.prompts": digest_files(*config.path(config.prompts).glob("*.jinja")),
        "digest.seeds": _digest_of(read_seeds(config.path(config.instructions.seeds))),
        "digest.heldout": _digest_of({"": tasks}),
    }
    if unfinished:
        _refuse_changes([unfinished], identity)
        store.set_status(unfinished.round, "running")
        return unfinished
    judge = Model(
        kind=ModelKind.JUDGE, name=config.evaluation.judge.partition(":")[0].rpartition(".")[2], path=config.evaluation.judge,
        digest=hashlib.sha256(config.evaluation.judge.encode()).hexdigest(),
    )  # fmt: skip
    store.record_model(judge)
    store.record_model(generator)
    store.set_heldout(identity["digest.heldout"], tasks)
    number = parent.number + 1 if parent else 0
    opened = Round(
        round=f"r{number}",
        number=number,
        parent=parent.round if parent else None,
        status="running",
        seed=config.seed,
        fingerprint=_fingerprint(identity),
        identity=identity,
        config=config.model_dump(mode="json"),
        generator_in=generator.model_id,
        generator_out=generator.model_id if number == 0 else None,
        reward_model=reward.model_id,
        judge=judge.model_id,
        versions={"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
    )
    store.open_round(opened)
    return opened


def _generator_after(parent: Round | None, workspace: Workspace, config: Config) -> Model:
    """The generator that the parent trained, or the configured one; raises ModelError where it has changed on disk."""
    if parent is None:
        folder = local_folder(config.model(config.generator))
        return Model(kind=ModelKind.GENERATOR, name="r0", path=workspace.inside(folder.resolve()), digest=digest_model(folder))
    assert parent.generator_out is not None
    model = workspace.store.model(parent.generator_out)
    folder = local_folder(str(workspace.locate(model)))
    if digest_model(folder) != model.digest:
        raise ModelError(
            f"{folder} is not what {parent.round} recorded (its digest has changed); put the folder back as it was"
        )
    return model


def _digest_of(sets: Mapping[str, Sequence[Task]]) -> str:
    """Digest of the tasks themselves, so that a file may be moved or reformatted."""
    return hashlib.sha256(
        json.dumps([[name, [task.task_id for task in tasks]] for name, tasks in sets.items()]).encode()
    ).hexdigest()


def _fingerprint(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _refuse_changes(rounds: Sequence[Round], identity: Mapping[str, Any]) -> None:
    """Raise ConfigError where an unfinished round was begun with another value of any of these keys."""
    now = json.loads(json.dumps(identity))
    for unfinished in (one for one in rounds if one.status != "done"):
        begun = unfinished.identity
        changed = [key for key, value in now.items() if key in begun and begun[key] != value]
        if not changed:
            continue
        differences = ", ".join(f"{key} = {begun[key]!r} (now {now[key]!r})" for key in changed)
        settings = [
            f"--set {shlex.quote(f'{key}={json.dumps(begun[key])}')}" for key in changed if not key.startswith("digest.")
        ]
        back = f"add {' '.join(settings)} to go on with it" if settings else "put the file back to go on with it"
        raise ConfigError(f"{unfinished.round} was begun with {differences}; {back}, or add --restart to begin it anew")
