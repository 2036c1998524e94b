"""What the stages of a round share, loaded when it is first needed."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import cached_property

from flywheel.config import Config
from flywheel.core.progress import Progress
from flywheel.engines.contract import Completions, Engine, Request
from flywheel.engines.generator import ENDPOINT, load_engine
from flywheel.instructions.filters import Filters
from flywheel.instructions.prompts import Prompts, load_prompts
from flywheel.instructions.tasks import read_held_out, read_seeds, read_tasks
from flywheel.records import Candidate, HeldOutTask, Model, Policy, Round, SeedTask, Task
from flywheel.reward.model import RewardModel, load_scorer
from flywheel.round.budget import Budget
from flywheel.store.store import Store
from flywheel.workers.cluster import cluster_workers
from flywheel.workers.work import LocalWorkers, Step, Work, Workers, finished
from flywheel.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class RoundContext:
    """One round at work: its settings and record, and the models, prompts and filters that its stages use."""

    workspace: Workspace
    config: Config
    progress: Progress
    budget: Budget
    round: Round

    @property
    def store(self) -> Store:
        return self.workspace.store

    @property
    def name(self) -> str:
        return self.round.round

    @property
    def reward_model(self) -> str:
        """Id of the model that selects."""
        assert self.round.reward_model is not None, "only proposing can do without a reward model"
        return self.round.reward_model

    @cached_property
    def prompts(self) -> Prompts:
        """What this round's generator reads."""
        return load_prompts(self.config, self.workspace, self.store.model(self.round.generator_in))

    @cached_property
    def seeds(self) -> list[SeedTask]:
        return read_seeds(self.config.path(self.config.instructions.seeds))

    @cached_property
    def held_out(self) -> list[HeldOutTask]:
        return read_held_out(self.config.path(self.config.evaluation.tasks))

    @cached_property
    def earlier(self) -> list[str]:
        """Names of the rounds before this one."""
        return [earlier.round for earlier in self.store.rounds() if earlier.number < self.round.number]

    @cached_property
    def filters(self) -> Filters:
        """The filters, which know the seeds and every task kept so far."""
        instructions = self.config.instructions
        kept = self.store.kept_tasks([*self.earlier, self.name])
        protected = [task for path in instructions.filters.decontaminate for task in read_tasks(self.config.path(path))]
        return Filters(
            instructions.filters,
            protected=[*(held_out.task for held_out in self.held_out), *protected],
            known=itertools.chain((seed.task for seed in self.seeds), kept),
            measures_novelty=instructions.best_of > 1 and instructions.best_by == "novelty",
        )

    @cached_property
    def scorer(self) -> RewardModel:
        """The merged reward model, loaded."""
        return self._load_scorer(self.reward_model)

    @cached_property
    def workers(self) -> Workers:
        """What generates with this round's generator, and scores."""
        return self.workers_for(self.store.model(self.round.generator_in))

    def workers_for(self, generator: Model, scorer: str | None = None) -> Workers:
        """What generates with a generator, and scores with the reward model or ``scorer``: the cluster, or this process."""
        if self.config.cluster is None or generator.path.startswith(ENDPOINT):
            return LocalWorkers(
                lambda: self._load_engine(generator), lambda: self._load_scorer(scorer) if scorer else self.scorer
            )
        scorer = scorer or self.round.reward_model
        reward = self.store.model(scorer) if scorer else None
        return cluster_workers(self.config, self.config.cluster, self.workspace, generator, reward)

    def generate(self, requests: Iterable[Request]) -> Generator[Completions]:
        """The completions of each request by this round's generator."""
        for work in self.workers.run((Work(request=request) for request in requests), Step.GENERATE):
            yield finished(work).completions

    def answered(self, attempts: range, policy: Policy | None = None) -> list[tuple[Task, list[Candidate]]]:
        """Each task with its candidates: all of them, or the one that a policy selected."""
        candidates = self.store.candidates(self.name, attempts, policy=policy)
        return [(task, candidates.get(task.task_id, [])) for task in self.store.tasks_of(self.name, attempts)]

    def close(self) -> None:
        """Free the memory of generator and reward model; they are loaded again when needed."""
        if "workers" in self.__dict__:
            self.__dict__.pop("workers").close()
        self.__dict__.pop("scorer", None)

    def _load_scorer(self, model_id: str) -> RewardModel:
        return load_scorer(self.workspace.locate(self.store.model(model_id)), self.config)

    def _load_engine(self, generator: Model) -> Engine:
        engine = load_engine(self.config, self.workspace, generator)
        # Prices are the generator's: a student that answers held-out tasks costs only its machine's time.
        priced = self.config.training.student is None or generator.model_id == self.round.generator_in
        return self.budget.guard(engine, choices=self.config.engine.endpoint.most_choices) if priced else engine
