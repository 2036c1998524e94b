"""The plan of a round: the stages, and the build of the reward model, counted under the names that progress gives them.

Memory is a rule of thumb. Generating and scoring need the weights. Training needs 16 bytes per parameter (the weight, its
gradient and two Adam states in float32), or with LoRA the frozen weights, and the logits of the largest batch with their
gradients. Activations, adapters and the cache of keys and values come on top.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from flywheel.config import Config, PricesConfig
from flywheel.engines.factory import Choice
from flywheel.estimate.history import Rate
from flywheel.estimate.inputs import BYTES, Shape, Writer
from flywheel.records import Policy, Stage
from flywheel.reward.data import PreferenceSet, pool
from flywheel.reward.recipe import TrainingSettings, training_settings
from flywheel.reward.sources import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A piece of work."""

    name: str
    unit: str
    count: int | None
    """None where it depends on data that is not on this machine."""
    rows: int = 0
    """Rows that it adds to the store, at most."""
    tokens: int = 0
    """Generated tokens, as estimated; ``most_tokens`` is the upper bound."""
    most_tokens: int = 0
    prompt_tokens: int = 0
    memory: int | None = None
    """Bytes, and ``available`` the bytes of its device; None on another machine."""
    available: int | None = None
    seconds: float | None = None
    """None where no finished round, which ``basis`` names, has measured it."""
    basis: str | None = None
    note: str = ""
    free: bool = False
    """Whether its tokens have no price: a student generates them here, not the generator behind its endpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the next round would do."""

    round: str
    engine: Choice
    models: Mapping[str, Shape]
    work: Sequence[Work]
    done: Sequence[str]
    """Work that is already done."""
    prices: PricesConfig
    notes: Sequence[str]
    warnings: Sequence[str] = ()

    def cost(self, work: Work) -> float | None:
        """The cost of a piece of work; None where the machine's time has a price and is unknown."""
        if self.prices.hour and work.seconds is None:
            return None
        tokens, prompt_tokens = (0, 0) if work.free else (work.tokens, work.prompt_tokens)
        return self.prices.cost(tokens=tokens, prompt_tokens=prompt_tokens, seconds=work.seconds or 0.0)

    @property
    def total(self) -> dict[str, Any]:
        """Sums and the peak of memory; seconds and cost are None where those of any work are unknown."""
        return {
            "tokens": sum(work.tokens for work in self.work),
            "most_tokens": sum(work.most_tokens for work in self.work),
            "prompt_tokens": sum(work.prompt_tokens for work in self.work),
            "memory": max((work.memory or 0 for work in self.work), default=0),
            "seconds": _sum([work.seconds for work in self.work]),
            "cost": _sum([self.cost(work) for work in self.work]),
        }

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        work = [asdict(work) | {"cost": self.cost(work)} for work in self.work]
        plain = asdict(self) | {"work": work, "total": self.total}
        del plain["prices"]
        return plain


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) if len(known) == len(values) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """What the stages have in common."""

    config: Config
    generator: Writer
    trained: Writer
    """The generator, or the student that is trained instead."""
    reward: Shape
    available: int
    """Bytes of memory where models score and are trained."""
    rates: Mapping[Stage, Rate]
    held_out: int
    earlier_winners: int
    """Texts of earlier rounds that an accumulating training takes too."""

    def work(self, name: str) -> Iterator[Work]:
        """All stages of a round, in order; r0 is only evaluated."""
        config, sampling, evaluation = self.config, self.config.sampling, self.config.evaluation
        tasks, members, paraphrases = config.instructions.tasks, len(config.reward.members), config.instructions.paraphrases
        if name != "r0":
            yield self._propose(name)
            answer = Work(name=name, unit="candidates", count=None, note=f"{sampling.n} per task")
            yield self._generate(answer, Stage.ANSWER, self.generator, tasks, sampling.n, sampling.max_tokens)
            score = self._scoring(name, "candidates", tasks * sampling.n)
            yield self._timed(score, Stage.SCORE, tasks * sampling.n)
            select = self._scoring(name, "tasks", tasks, note=f"{members} members score the winners")
            yield self._timed(select, Stage.SELECT, tasks * (len(Policy) + members))
            if evaluation.judges_candidates:
                asked = min(tasks, evaluation.curve_tasks)
                judge = Work(name=name, unit="tasks", count=asked, note="every candidate, to measure selection")
                judges = sum(judge.is_free for judge in evaluation.all_judges.values())
                yield self._timed(judge, Stage.JUDGE, asked * sampling.n * judges)
            if paraphrases.per_winner:
                work = Work(name=name, unit="paraphrases", count=None, note=f"{paraphrases.per_winner} per winner")
                n, cap = paraphrases.per_winner, paraphrases.max_tokens
                yield self._generate(work, Stage.PARAPHRASE, self.generator, tasks, n, cap)
            yield self._train(name)
        samples, free = evaluation.samples, config.training.student is not None
        work = Work(name=name, unit="samples", count=None, note=f"{samples} per held-out task", free=free)
        # A row for each output, one for its reward, one for the score of each judge.
        each = 2 + len(evaluation.all_judges)
        yield self._generate(work, Stage.EVALUATE, self.trained, self.held_out, samples, sampling.max_tokens, each)

    def reward_model(self, sets: Mapping[str, PreferenceSet]) -> Iterator[Work]:
        """The build of the reward model; the steps of a member whose data is not in ``sets`` are unknown."""
        reward = self.config.reward
        if reward.joint.epochs:
            data = pool(sets, seed=reward.seed) if len(sets) == len(reward.members) else None
            yield self._member("joint", data, training_settings(reward, reward.joint))
        for name, member in reward.members.items():
            yield self._member(f"member {name}", sets.get(name), training_settings(reward, member))
        merge = self._scoring("merge", "merges", reward.search.trials or 1)
        yield replace(merge, memory=(len(reward.members) + 2) * 4 * self.reward.parameters)

    @property
    def longest_text(self) -> int:
        """Tokens of the longest answer prompt with its output and end mark, as far as the seeds show."""
        return max(self.trained.prompts[Stage.ANSWER]) + self.config.sampling.max_tokens + 1

    def _propose(self, name: str) -> Work:
        config, rate = self.config.instructions, self.rates.get(Stage.PROPOSE)
        attempts = math.ceil(config.tasks / rate.kept) if rate else config.tasks * config.best_of
        most = config.max_attempts * config.best_of * config.tasks
        most_tokens = most * config.max_tokens
        if config.max_total_tokens:
            chunk = self.config.engine.chunk * config.best_of * config.max_tokens
            most_tokens = min(most_tokens, config.max_total_tokens + chunk)
        note = f"{attempts:,} attempts{'' if rate else ', if all are kept'}; {most:,} at most"
        work, prompts = Work(name=name, unit="tasks", count=None, note=note), math.ceil(attempts / config.best_of)
        work = self._generate(work, Stage.PROPOSE, self.generator, prompts, config.best_of, config.max_tokens)
        return replace(work, count=config.tasks, rows=most, most_tokens=most_tokens)

    def _train(self, name: str) -> Work:
        config, instructions, shape = self.config.training, self.config.instructions, self.trained.shape
        assert shape is not None, "no endpoint is trained"
        winners, proposals = 0, instructions.tasks
        if config.proposal_share < 1:
            winners = instructions.tasks * (1 + (instructions.paraphrases.per_winner if config.paraphrases else 0))
            winners += self.earlier_winners if config.data == "accumulate" else 0
            proposals = min(round(winners * config.proposal_share / (1 - config.proposal_share)), proposals)
        texts = max(1, config.batch_size // (config.processes * config.accumulate))
        logits = texts * min(self.longest_text, config.max_length) * shape.vocabulary
        weights = shape.parameters * (BYTES[config.dtype] if config.lora else 16)
        steps = _steps(winners + proposals, config.batch_size, config.epochs, config.args)
        note = f"{winners:,} winners, {proposals:,} proposals, {config.batch_size} per step"
        work = replace(self._scoring(name, "steps", steps, note=note), memory=weights + 8 * logits)
        return replace(self._timed(work, Stage.TRAIN, winners + proposals), rows=1)

    def _generate(
        self, work: Work, stage: Stage, writer: Writer, prompts: int, n: int, max_tokens: int, rows_per_text: int = 1
    ) -> Work:
        texts = prompts * n
        requests = math.ceil(n / self.config.engine.endpoint.most_choices) if writer.engine.name == "openai" else 1
        work = replace(
            work, count=texts, tokens=texts * max_tokens, most_tokens=texts * max_tokens,
            prompt_tokens=round(prompts * requests * statistics.fmean(writer.prompts[stage])),
            memory=writer.memory, available=writer.available,
        )  # fmt: skip
        return self._timed(work, stage, texts * rows_per_text)

    def _timed(self, work: Work, stage: Stage, rows: int) -> Work:
        """The work of a stage, with the time and tokens of so many rows if a finished round has measured them."""
        work, rate = replace(work, name=f"{work.name} {stage}", rows=rows), self.rates.get(stage)
        if rate is None:
            return work
        return replace(work, tokens=round(rate.tokens * rows), seconds=rate.seconds * rows, basis=rate.round)

    def _scoring(self, name: str, unit: str, count: int | None, *, note: str = "") -> Work:
        memory = 4 * self.reward.parameters
        return Work(name=name, unit=unit, count=count, memory=memory, available=self.available, note=note)

    def _member(self, name: str, data: PreferenceSet | None, settings: TrainingSettings) -> Work:
        memory = (4 if settings.lora else 16) * self.reward.parameters
        steps, note = None, "its data is not on this machine yet"
        if data is not None:
            rows = len(data.of(Split.TRAIN))
            steps = _steps(rows, settings.batch_size, settings.epochs, {**settings.args, **settings.own_args})
            note = f"{rows:,} {data.kind}, {settings.batch_size} per step"
        return replace(self._scoring(name, "steps", steps, note=note), memory=memory)


def _steps(rows: int, batch_size: int, epochs: float, args: Mapping[str, Any]) -> int:
    """Optimizer steps of a training as trl counts them; ``args`` are what the config passes on to its trainer."""
    most = int(args.get("max_steps") or 0)
    per_epoch = math.ceil(rows / (batch_size * int(args.get("gradient_accumulation_steps") or 1)))
    return most if most > 0 else math.ceil(per_epoch * epochs)
