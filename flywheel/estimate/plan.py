"""The work of a round and what it takes, computed from a configuration.

Memory is a rule of thumb. Generating and scoring need the weights. Training needs 16 bytes per parameter (the weight, its
gradient and two Adam states in float32), or with LoRA the frozen weights, and the logits of the largest batch with their
gradients. Activations, adapters and the cache of keys and values come on top.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flywheel.config import Config
from flywheel.engines.factory import Choice
from flywheel.estimate.history import State
from flywheel.estimate.inputs import BYTES, Shape, TextModel
from flywheel.records import Policy, Stage
from flywheel.reward.data import PreferenceSet, pool
from flywheel.reward.recipe import TrainingSettings, training_settings
from flywheel.reward.sources import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A piece of work, under the name that progress gives it."""

    name: str
    unit: str = ""
    count: int | None = None
    """None where it depends on data on the hub."""
    rows: int = 0
    """Rows that it adds to the store, at most."""
    tokens: int = 0
    """Generated tokens, as estimated; ``most_tokens`` is the upper bound."""
    most_tokens: int = 0
    prompt_tokens: int = 0
    memory: int | None = None
    """Bytes; None behind an endpoint."""
    seconds: float | None = None
    """None where no finished round, which ``basis`` names, has measured it."""
    basis: str | None = None
    cost: float | None = None
    """None where the machine's time has a price and is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the next round would do."""

    round: str
    engine: Choice
    models: Mapping[str, Shape]
    work: Sequence[Work]
    done: Sequence[str]
    """Work that is already done."""
    warnings: Sequence[str] = ()

    @property
    def total(self) -> dict[str, Any]:
        """Sums and the peak of memory; seconds and cost are None where those of any work are unknown."""
        names = ("tokens", "most_tokens", "prompt_tokens", "seconds", "cost")
        columns = {name: [getattr(work, name) for work in self.work] for name in names}
        sums = {name: None if None in values else sum(values) for name, values in columns.items()}
        return sums | {"memory": max((work.memory or 0 for work in self.work), default=0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """Plans each piece of work of a configuration."""

    config: Config
    state: State
    held_out: int
    generator: TextModel
    trained: TextModel
    """The generator, or the student that is trained instead."""
    reward: Shape

    def stages(self) -> Iterator[Work]:
        """All stages of a round, in order."""
        config, sampling, evaluation = self.config, self.config.sampling, self.config.evaluation
        tasks, n, paraphrases = config.instructions.tasks, sampling.n, config.instructions.paraphrases
        judges = evaluation.all_judges.values()
        yield self._propose()
        yield self._generate(Stage.ANSWER, "candidates", tasks, n, sampling.max_tokens)
        yield self._score(Stage.SCORE, "candidates", tasks * n, tasks * n)
        # A row for the pick of each policy, and one for the score of each member.
        yield self._score(Stage.SELECT, "tasks", tasks, tasks * (len(Policy) + len(config.reward.members)))
        if evaluation.judges_candidates:
            asked, free = min(tasks, evaluation.curve_tasks), sum(judge.is_free for judge in judges)
            yield self._measured(Work(name=Stage.JUDGE, unit="tasks", count=asked, rows=asked * n * free))
        if paraphrases.per_winner:
            yield self._generate(Stage.PARAPHRASE, "paraphrases", tasks, paraphrases.per_winner, paraphrases.max_tokens)
        yield self._train()
        # A row for each output, one for its reward, one for the score of each judge.
        evaluate = self._generate(Stage.EVALUATE, "samples", self.held_out, evaluation.samples, sampling.max_tokens)
        yield self._measured(replace(evaluate, rows=evaluate.rows * (2 + len(judges))))

    def reward_model(self, sets: Mapping[str, PreferenceSet]) -> Iterator[Work]:
        """The build of the reward model; without ``sets``, the steps of its members are unknown."""
        reward = self.config.reward
        if reward.joint.epochs:
            data = pool(sets, seed=reward.seed) if sets else None
            yield self._member("joint", data, training_settings(reward, reward.joint))
        for name, member in reward.members.items():
            yield self._member(f"member {name}", sets.get(name), training_settings(reward, member))
        yield self._score("merge", "merges", reward.search.trials or 1, bytes_per_parameter=4 * (len(reward.members) + 2))

    @property
    def longest_text(self) -> int:
        """Tokens of the longest answer prompt with its output and end mark, as far as the seeds show."""
        return max(self.trained.prompts[Stage.ANSWER]) + self.config.sampling.max_tokens + 1

    def _propose(self) -> Work:
        config, rate = self.config.instructions, self.state.rates.get(Stage.PROPOSE)
        prompts = math.ceil(config.tasks / rate.kept / config.best_of) if rate else config.tasks
        most = config.max_attempts * config.best_of * config.tasks
        most_tokens = most * config.max_tokens
        if config.max_total_tokens:
            chunk = self.config.engine.chunk * config.best_of * config.max_tokens
            most_tokens = min(most_tokens, config.max_total_tokens + chunk)
        work = self._generate(Stage.PROPOSE, "tasks", prompts, config.best_of, config.max_tokens)
        return replace(work, count=config.tasks, rows=most, most_tokens=most_tokens)

    def _train(self) -> Work:
        config, instructions, shape = self.config.training, self.config.instructions, self.trained.shape
        assert shape is not None, "no endpoint is trained"
        winners, proposals = 0, instructions.tasks
        if config.proposal_share < 1:
            winners = instructions.tasks * (1 + (instructions.paraphrases.per_winner if config.paraphrases else 0))
            winners += self.state.winners if config.data == "accumulate" else 0
            proposals = min(round(winners * config.proposal_share / (1 - config.proposal_share)), proposals)
        texts = max(1, config.batch_size // (config.processes * config.accumulate))
        logits = texts * min(self.longest_text, config.max_length) * shape.vocabulary
        weights = shape.parameters * (BYTES[config.dtype] if config.lora else 16)
        steps = _steps(winners + proposals, config.batch_size, config.epochs, config.args)
        work = self._score(Stage.TRAIN, "steps", steps, winners + proposals)
        return replace(work, rows=1, memory=weights + 8 * logits)

    def _generate(self, stage: Stage, unit: str, prompts: int, n: int, cap: int) -> Work:
        model, requests = self.trained if stage == Stage.EVALUATE else self.generator, 1
        if model.engine.name == "openai":
            requests = math.ceil(n / self.config.engine.endpoint.most_choices)
        work = Work(
            name=stage,
            unit=unit,
            count=prompts * n,
            rows=prompts * n,
            tokens=prompts * n * cap,
            most_tokens=prompts * n * cap,
            prompt_tokens=round(prompts * requests * statistics.fmean(model.prompts[stage])),
            memory=model.memory,
        )
        return self._measured(work)

    def _member(self, name: str, data: PreferenceSet | None, settings: TrainingSettings) -> Work:
        steps, args = None, {**settings.args, **settings.own_args}
        if data is not None:
            steps = _steps(len(data.of(Split.TRAIN)), settings.batch_size, settings.epochs, args)
        return self._score(name, "steps", steps, bytes_per_parameter=4 if settings.lora else 16)

    def _score(self, name: str, unit: str, count: int | None, rows: int = 0, *, bytes_per_parameter: int = 4) -> Work:
        memory = bytes_per_parameter * self.reward.parameters
        return self._measured(Work(name=name, unit=unit, count=count, rows=rows, memory=memory))

    def _measured(self, work: Work) -> Work:
        """The work with its cost, and the time and tokens of its rows if a finished round has measured the stage."""
        if rate := self.state.rates.get(work.name):
            seconds, tokens = rate.seconds * work.rows, round(rate.tokens * work.rows)
            work = replace(work, tokens=tokens, seconds=seconds, basis=rate.round)
        prices = self.config.prices
        if prices.hour and work.seconds is None:
            return work
        # The tokens of a student have no price: it generates here, not behind the generator's endpoint.
        free = work.name == Stage.EVALUATE and self.config.training.student is not None
        tokens, prompt_tokens = (0, 0) if free else (work.tokens, work.prompt_tokens)
        return replace(work, cost=prices.cost(tokens=tokens, prompt_tokens=prompt_tokens, seconds=work.seconds or 0.0))


def _steps(rows: int, batch_size: int, epochs: float, args: Mapping[str, Any]) -> int:
    """Optimizer steps of a training as trl counts them; ``args`` are what the config passes on to its trainer."""
    most = int(args.get("max_steps") or 0)
    per_epoch = math.ceil(rows / (batch_size * int(args.get("gradient_accumulation_steps") or 1)))
    return most if most > 0 else math.ceil(per_epoch * epochs)
