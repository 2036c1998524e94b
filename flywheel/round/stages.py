"""The stages of a round that make something: what each asks of the stations, and what it yields to the store.

Every stage yields chunks; a chunk's rows and the stage's progress are one transaction.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from flywheel.config import Config
from flywheel.core.files import digest_model, publish
from flywheel.core.progress import Counter, Progress
from flywheel.core.seeds import derive
from flywheel.core.spool import Spooled
from flywheel.engines.contract import Engine, Request, Sampling, Written, prompt_tokens
from flywheel.engines.generator import ENDPOINT, load_engine, trained_before
from flywheel.evaluation.diversity import task_diversity
from flywheel.instructions.demos import Demos
from flywheel.instructions.filters import Filters
from flywheel.instructions.paraphrase import paraphrase
from flywheel.instructions.prompt_style import load_prompts
from flywheel.instructions.prompts import Prompts, format_task
from flywheel.instructions.propose import propose
from flywheel.instructions.tasks import read_held_out, read_reworded, read_seeds, read_tasks
from flywheel.records import (
    Candidate,
    Chunk,
    Completion,
    FailedChunk,
    HeldOutTask,
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
from flywheel.reward.model import RewardModel, load_scorer
from flywheel.reward.text import Answer
from flywheel.round.budget import Budget
from flywheel.round.selection import select_all
from flywheel.store.store import BLOCK
from flywheel.training import train_generator, training_examples
from flywheel.workers.cluster import cluster_workers
from flywheel.workers.here import Here
from flywheel.workers.work import Do, Failed, Work, Workers, finished
from flywheel.workspace import Workspace

Item = TypeVar("Item")


@dataclass(kw_only=True)
class Run:
    """One round at work: what its stages share, loaded when first needed."""

    workspace: Workspace
    config: Config
    progress: Progress
    budget: Budget
    round: Round

    @cached_property
    def prompts(self) -> Prompts:
        """What the generator reads."""
        return load_prompts(self.config, self.workspace, self.workspace.store.model(self.round.generator_in))

    @cached_property
    def seeds(self) -> list[SeedTask]:
        return read_seeds(self.config.path(self.config.instructions.seeds))

    @cached_property
    def held_out(self) -> list[HeldOutTask]:
        return read_held_out(self.config.path(self.config.evaluation.tasks))

    @property
    def reward_model(self) -> str:
        """The model that selects."""
        assert self.round.reward_model is not None, "only proposing does without"
        return self.round.reward_model

    @cached_property
    def scorer(self) -> RewardModel:
        return load_scorer(self.workspace.locate(self.workspace.store.model(self.reward_model)), self.config)

    def _scorer(self, model_id: str | None) -> RewardModel:
        """The reward model, or one of its members."""
        if model_id is None or model_id == self.round.reward_model:
            return self.scorer
        return load_scorer(self.workspace.locate(self.workspace.store.model(model_id)), self.config)

    @cached_property
    def workers(self) -> Workers:
        """Who writes with this round's generator, and scores."""
        return self.workers_on(self.workspace.store.model(self.round.generator_in))

    def workers_on(self, generator: Model, scorer: str | None = None) -> Workers:
        """Who writes with a generator, and scores with the reward model or another scorer: the cluster, or this process."""
        scorer = scorer or self.round.reward_model
        if self.config.cluster is None or generator.path.startswith(ENDPOINT):
            return Here(lambda: self._engine_on(generator), lambda: self._scorer(scorer))
        reward = self.workspace.store.model(scorer) if scorer else None
        return cluster_workers(self.config, self.config.cluster, self.workspace, generator, reward)

    def _engine_on(self, generator: Model) -> Engine:
        engine = load_engine(self.config, self.workspace, generator)
        # Prices are those of the generator: what a student writes costs its machine's time only.
        asked = self.config.training.student is None or generator.model_id == self.round.generator_in
        return self.budget.guard(engine, choices=self.config.engine.endpoint.most_choices) if asked else engine

    def write(self, requests: Iterable[Request]) -> Generator[Written]:
        """What this round's generator writes, request by request."""
        for work in self.workers.do((Work(request=one) for one in requests), Do.WRITE):
            yield finished(work).written

    def close(self) -> None:
        """Give back the memory of generator and reward model; they are loaded again when needed."""
        if "workers" in self.__dict__:
            self.__dict__.pop("workers").close()
        self.__dict__.pop("scorer", None)

    @cached_property
    def earlier(self) -> list[str]:
        """The rounds before this one."""
        return [one.round for one in self.workspace.store.rounds() if one.number < self.round.number]

    @cached_property
    def filters(self) -> Filters:
        """The filters, which know the seeds and every task kept so far."""
        instructions = self.config.instructions
        config, kept = instructions.filters, self.workspace.store.kept_tasks([*self.earlier, self.round.round])
        protected = [task for path in config.protected for task in read_tasks(self.config.path(path))]
        return Filters(
            config,
            protected=[*(one.task for one in self.held_out), *protected],
            known=itertools.chain((seed.task for seed in self.seeds), kept),
            measures_novelty=instructions.best_of > 1 and instructions.best_by == "novelty",
        )

    def stage(
        self, stage: Stage, produce: Callable[[int, Counter], Iterator[Chunk[Any]]], *, total: int | None, unit: str
    ) -> None:
        """Run what is left of a stage, committing chunk by chunk. ``produce`` starts after the chunks done."""
        self.stages(
            (stage,),
            lambda done, counter: ({stage: chunk} for chunk in produce(done[stage], counter)),
            total=total, unit=unit,
        )  # fmt: skip

    def stages(
        self,
        stages: Sequence[Stage],
        produce: Callable[[Mapping[Stage, int], Counter], Iterator[Mapping[Stage, Chunk[Any]]]],
        *,
        total: int | None,
        unit: str,
    ) -> None:
        """Run stages side by side until each has its last chunk; where one of them has it already, do nothing."""
        store, name = self.workspace.store, self.round.round
        before = {stage: store.progress(name, stage) for stage in stages}
        if any(one.finished for one in before.values()):
            return
        # Prices are those of the generator: what a student writes costs its machine's time only.
        free = Stage.EVALUATE in stages and self.config.training.student is not None
        called = " and ".join(stages)
        with self.budget.watch(self.progress).work(f"{name} {called}", total=total, unit=unit) as counter:
            started = time.monotonic()
            for chunks in produce({stage: one.chunks for stage, one in before.items()}, counter):
                seconds = (time.monotonic() - started) / len(chunks)
                for stage, chunk in chunks.items():
                    tokens, read = (0, 0) if free else (chunk.tokens, chunk.prompt_tokens)
                    cost = self.budget.cost(tokens=tokens, prompt_tokens=read, seconds=seconds) + self.budget.due()
                    store.commit(name, stage, chunk, seconds=seconds, cost=cost)
                    self.budget.spend(chunk.tokens, chunk.prompt_tokens, free=free)
                started = time.monotonic()

    def propose(self, done: int, counter: Counter) -> Iterator[Chunk[Proposal]]:
        """New tasks, until as many are kept as the config asks for."""
        store, name, config = self.workspace.store, self.round.round, self.config.instructions
        names = (self.config.seed, name, "propose")
        winners = (
            Spooled((one.task for one in store.winners(self.earlier)), self.workspace.models)
            if config.demos == "evolving"
            else []
        )
        so_far = store.proposed_so_far(name)
        kept = so_far.kept
        for chunk in propose(
            self.write,
            self.prompts,
            config,
            demos=Demos(config, self.seeds, winners, names=names),
            filters=self.filters,
            best=self._best_task(),
            names=names,
            chunk=self.config.engine.chunk,
            done=so_far,
        ):
            new = [row.task for row in chunk.rows if row.reason is None and row.task]
            kept += len(new)
            if chunk.last:
                before = itertools.chain((seed.task for seed in self.seeds), store.kept_tasks(self.earlier))
                tasks = itertools.chain(store.kept_tasks([name]), new)
                chunk = replace(chunk, metrics=task_diversity(tasks, before, self.config.seed, name, count=kept))
            yield chunk
            counter.to(kept)

    def _best_task(self) -> Callable[[Sequence[Task]], list[float]]:
        """What chooses among the tasks that one prompt gave."""
        if self.config.instructions.best_by == "novelty":
            return lambda tasks: [self.filters.novelty(task) for task in tasks]
        return lambda tasks: self.scorer.score_texts([f"Instruction: {format_task(task)}" for task in tasks])

    def answer(self, done: int, counter: Counter) -> Iterator[Chunk[Candidate | FailedChunk]]:
        """N candidates for each kept task."""
        chunks = self.number_of_chunks
        for index, work in enumerate(_done(self.workers.do(self._to_answer(done), Do.WRITE), before=done), start=done):
            yield _candidates(work, index, last=index == chunks - 1)
            counter.to(self._until(index) * self.config.sampling.n)

    def score(self, done: int, counter: Counter) -> Iterator[Chunk[Score | FailedChunk]]:
        """The merged reward model's score of every candidate."""
        chunks = self.number_of_chunks
        for index, work in enumerate(_done(self.workers.do(self._to_score(done), Do.SCORE), before=done), start=done):
            yield _rewards(work, index, self.reward_model, last=index == chunks - 1)
            counter.to(self._until(index) * self.config.sampling.n)

    def answer_and_score(self, done: Mapping[Stage, int], counter: Counter) -> Iterator[Mapping[Stage, Chunk[Any]]]:
        """Both at once, where there are workers for both: a chunk is scored while the next ones are written."""
        written, chunks = done[Stage.ANSWER], self.number_of_chunks
        scored = done[Stage.SCORE]
        left = itertools.chain(itertools.islice(self._to_score(scored), written - scored), self._to_answer(written))
        coming = _done(self.workers.do(left, Do.WRITE, Do.SCORE), before=scored)
        for index, one in enumerate(coming, start=scored):
            last = index == chunks - 1
            new = {Stage.ANSWER: _candidates(one, index, last=last)} if index >= written else {}
            yield new | {Stage.SCORE: _rewards(one, index, self.reward_model, last=last)}
            counter.to(self._until(index) * self.config.sampling.n)

    @property
    def number_of_chunks(self) -> int:
        """Into how many chunks the kept tasks of this round are cut."""
        return len(self.workspace.store.spans(self.round.round, self.config.engine.chunk))

    def _until(self, index: int) -> int:
        """How many tasks there are up to and with a chunk."""
        return min((index + 1) * self.config.engine.chunk, self.config.instructions.tasks)

    def _to_answer(self, done: int) -> Iterator[Work]:
        """The kept tasks, chunk by chunk, and what the generator is asked for them."""
        config = self.config.sampling
        sampling = Sampling(temperature=config.temperature, top_p=config.top_p, max_tokens=config.max_tokens)
        for index, tasks in self.chunks(done, self.tasks):
            prompts = [self.prompts.answer(task) for task in tasks]
            seed = derive(self.config.seed, self.round.round, "answer", index)
            yield Work(tasks=tasks, request=Request(prompts=prompts, n=config.n, sampling=sampling, seed=seed))

    def _to_score(self, done: int) -> Iterator[Work]:
        """The candidates of the kept tasks, chunk by chunk."""
        for _, answered in self.chunks(done, self.answered):
            yield _written_before(answered)

    def select(self, done: int, counter: Counter) -> Iterator[Chunk[Selection | Score]]:
        """Every policy's pick for every task; then what each member gave the winners, one member in memory at a time."""
        store, name = self.workspace.store, self.round.round
        spans, members = store.spans(name, BLOCK), store.model(self.reward_model).facts.members

        def left() -> Iterator[Sequence[Selection] | Sequence[Score]]:
            for attempts in spans[done:]:
                yield select_all(store.scored(name, self.reward_model, attempts), self.config.seed, name)
            for number, member in enumerate(members, start=1):
                yield from self._member_scores(member, spans[max(0, done - number * len(spans)) :])

        last = len(spans) * (1 + len(members)) - 1
        for index, rows in enumerate(left(), start=done):
            yield Chunk(rows=rows, last=index == last)
            counter.to(min((index + 1) * BLOCK, self.config.instructions.tasks))

    def _member_scores(self, member: str, spans: Sequence[range]) -> Iterator[list[Score]]:
        """What a member of the reward model gives the winners, span by span."""
        asked: deque[list[tuple[str, int]]] = deque()

        def winners() -> Iterator[Work]:
            for attempts in spans:
                picked = [(task, one) for task, picks in self.answered(attempts, policy=Policy.BEST) for one in picks]
                asked.append([(one.task_id, one.candidate) for _, one in picked])
                yield _written_before([(task, [one]) for task, one in picked])

        if not spans:
            return
        with closing(self.workers_on(self.workspace.store.model(self.round.generator_in), scorer=member)) as workers:
            for work in map(finished, workers.do(winners(), Do.SCORE)):
                yield [
                    Score(task_id=task_id, candidate=candidate, model_id=member, score=score)
                    for (task_id, candidate), score in zip(asked.popleft(), work.scores, strict=True)
                ]

    def paraphrase(self, done: int, counter: Counter) -> Iterator[Chunk[Proposal]]:
        """Other ways to say what the winners were asked."""
        config = self.config.instructions.paraphrases
        kept = self.workspace.store.paraphrased_so_far(self.round.round)
        for chunk in paraphrase(
            self.write,
            self.prompts,
            config,
            Spooled(self.workspace.store.winners([self.round.round]), self.workspace.models),
            demos=read_reworded(self.config.path(config.demos)),
            filters=self.filters,
            reward=lambda rows: self.scorer.score([Answer(task=task, output=output) for task, output in rows]),
            names=(self.config.seed, self.round.round, "paraphrase"),
            chunk=self.config.engine.chunk,
            done=done,
        ):
            yield chunk
            kept += sum(row.reason is None for row in chunk.rows)
            counter.to(kept)

    def train(self, done: int, counter: Counter) -> Iterator[Chunk[Model]]:
        """The next generator, or the student in its place, fine-tuned on the winners."""
        store, name, config = self.workspace.store, self.round.round, self.config.training
        start = trained_before(self.round, self.config, self.workspace)
        self.close()
        source = self.round.tasks_of
        shown = {seed.task.task_id: seed.task for seed in self.seeds}
        if self.config.instructions.demos == "evolving":
            shown |= store.demos(source)
        winners = store.winners(
            [*self.earlier, source] if config.data == "accumulate" else [source],
            policy=self.round.policy,
            paraphrases=config.paraphrases,
        )
        proposals = (([shown[demo] for demo in one.demos], one.task) for one in store.tasks(source))
        examples = training_examples(
            Spooled(winners, self.workspace.models),
            Spooled(proposals, self.workspace.models),
            load_prompts(self.config, self.workspace, start),
            proposal_share=config.proposal_share,
            names=(self.config.seed, source, "train"),
        )
        folder = self.workspace.models / f"generator-{name}"
        with publish(folder) as unfinished:
            facts = train_generator(
                str(self.workspace.locate(start)), unfinished, examples, config,
                seed=derive(self.config.seed, source, "train"), advance=counter.to,
                checkpoints=self.workspace.models / f"generator-{name}-{self.round.fingerprint[:12]}.training",
                base=self.config.base, trust_remote_code=self.config.engine.trust_remote_code,
            )  # fmt: skip
        model = Model(
            kind=ModelKind.GENERATOR, name=name, path=self.workspace.inside(folder), digest=digest_model(folder),
            parent=start.model_id, recipe=config.model_dump(), facts=facts,
        )  # fmt: skip
        self.round = replace(self.round, generator_out=model.model_id)
        yield Chunk(rows=[model], last=True)

    def chunks(self, done: int, read: Callable[[range], Sequence[Item]]) -> Iterator[tuple[int, Sequence[Item]]]:
        """Index and items of every chunk after the first ``done``.

        ``read`` gives one item for each task of some attempts; it is asked for many chunks at once, never for a round.
        """
        size = self.config.engine.chunk
        spans, together = self.workspace.store.spans(self.round.round, size), max(1, BLOCK // size)
        for first in range(done, len(spans), together):
            block = spans[first : first + together]
            items = read(range(block[0].start, block[-1].stop))
            for place in range(len(block)):
                yield first + place, items[place * size : (place + 1) * size]

    def tasks(self, attempts: range) -> list[Task]:
        return self.workspace.store.tasks_of(self.round.round, attempts)

    def answered(self, attempts: range, policy: Policy | None = None) -> list[tuple[Task, list[Candidate]]]:
        """Each task with its candidates, all or those that one policy picked."""
        candidates = self.workspace.store.candidates(self.round.round, attempts, policy=policy)
        return [(task, candidates.get(task.task_id, [])) for task in self.tasks(attempts)]


def _done(coming: Iterable[Work | Failed], *, before: int) -> Iterator[Work | Failed]:
    """What comes of the chunks; raises EngineError where none could be done, nor any before: no chunk is to blame then."""
    some, failed = before > 0, list[Failed]()
    for one in coming:
        if isinstance(one, Failed) and not some:
            failed.append(one)
            continue
        some = True
        yield from failed
        failed.clear()
        yield one
    if failed:
        finished(failed[0])


def _candidates(work: Work | Failed, index: int, *, last: bool) -> Chunk[Candidate | FailedChunk]:
    """What was written for some tasks, as it is kept; or that nothing could be."""
    if isinstance(work, Failed):
        return Chunk(rows=[FailedChunk(stage=Stage.ANSWER, chunk=index, error=work.error)], last=last)
    assert work.request is not None
    rows = [
        Candidate(
            task_id=task.task_id, candidate=place, output=one.text.strip(), finish_reason=one.finish_reason,
            tokens=one.tokens, logprob=one.logprob, seed=work.request.seed,
        )
        for task, group in zip(work.tasks, work.written, strict=True)
        for place, one in enumerate(group)
    ]  # fmt: skip
    tokens = sum(row.tokens for row in rows)
    return Chunk(rows=rows, last=last, tokens=tokens, prompt_tokens=prompt_tokens(work.written))


def _rewards(work: Work | Failed, index: int, model_id: str, *, last: bool) -> Chunk[Score | FailedChunk]:
    """What the reward model gave the candidates of some tasks; or that it could not."""
    if isinstance(work, Failed):
        return Chunk(rows=[FailedChunk(stage=Stage.SCORE, chunk=index, error=work.error)], last=last)
    groups = zip(work.tasks, work.written, strict=True)
    places = [(task.task_id, place) for task, group in groups for place in range(len(group))]
    rows = [
        Score(task_id=task_id, candidate=place, model_id=model_id, score=score)
        for (task_id, place), score in zip(places, work.scores, strict=True)
    ]
    return Chunk(rows=rows, last=last)


def _written_before(answered: Sequence[tuple[Task, Sequence[Candidate]]]) -> Work:
    """Candidates of the store, to be scored."""
    return Work(
        tasks=[task for task, _ in answered],
        written=[
            [Completion(text=one.output, tokens=one.tokens, finish_reason=one.finish_reason) for one in candidates]
            for _, candidates in answered
        ],
    )
