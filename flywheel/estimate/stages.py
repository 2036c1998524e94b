"""The stages of a round, planned: what each reads, writes, keeps in memory, and how long it takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from flywheel.config import Config
from flywheel.core.seeds import generator as seeded
from flywheel.engines.machine import workers
from flywheel.estimate.activations import frozen_type, kept_by_generator
from flywheel.estimate.history import Rate
from flywheel.estimate.machine import Machine
from flywheel.estimate.plan import ROOFLINE, UNCOUNTED, Work, steps_of
from flywheel.estimate.reward import batch_tokens
from flywheel.estimate.roofline import (
    Training,
    Writing,
    reading_memory,
    reading_seconds,
    training_memory,
    training_seconds,
    writing_memory,
    writing_seconds,
)
from flywheel.estimate.sizes import Shape
from flywheel.estimate.texts import Length, Lengths
from flywheel.estimate.writers import Writer
from flywheel.records import Policy, Stage

SERVED = 256
"""Texts that vLLM has under way at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """What the stages of a round have in common."""

    config: Config
    writer: Writer
    trained: Writer
    """The same, unless a student is trained in its place."""
    reward: Shape
    reward_lengths: Lengths
    machine: Machine
    """Where rewards are computed and models are trained."""
    rates: Mapping[Stage, Rate]
    held_out: int
    earlier_winners: int
    """Of the rounds before, which are trained on too where the config says so."""

    def work(self, name: str) -> Iterator[Work]:
        """All stages of a round, in order; r0 is evaluated and nothing else."""
        if name != "r0":
            yield self._propose(name)
            yield self._answer(name)
            yield self._score(name)
            yield self._select(name)
            if self.config.evaluation.judges_candidates:
                yield self._judge(name)
            if self.config.instructions.paraphrases.per_winner:
                yield self._paraphrase(name)
            yield self._train(name)
        yield self._evaluate(name)

    @property
    def _tasks(self) -> int:
        return self.config.instructions.tasks

    def _propose(self, name: str) -> Work:
        config, rate = self.config.instructions, self.rates.get(Stage.PROPOSE)
        attempts = math.ceil(self._tasks / rate.kept) if rate else self._tasks * config.best_of
        most = config.max_attempts * config.best_of * self._tasks
        most_tokens = most * config.max_tokens
        if config.max_total_tokens:
            chunk = self.config.engine.chunk * config.best_of * config.max_tokens
            most_tokens = min(most_tokens, config.max_total_tokens + chunk)
        work = self._writing(
            f"{name} {Stage.PROPOSE}", self.writer, self.writer.lengths.propose,
            prompts=math.ceil(attempts / config.best_of), n=config.best_of, max_tokens=config.max_tokens, rate=rate,
        )  # fmt: skip
        if config.best_of > 1 and config.best_by == "reward" and not rate and work.seconds is not None:
            work = replace(work, seconds=work.seconds + self._reading_seconds(attempts * self.reward_lengths.task.mean))
        told = f"{attempts:,} attempts{'' if rate else ', if all are kept'}; it gives up after {most:,}"
        return replace(work, unit="tasks", count=self._tasks, rows=most, most_tokens=most_tokens, note=told)

    def _answer(self, name: str) -> Work:
        sampling = self.config.sampling
        work = self._writing(
            f"{name} {Stage.ANSWER}", self.writer, self.writer.lengths.answer,
            prompts=self._tasks, n=sampling.n, max_tokens=sampling.max_tokens, rate=self.rates.get(Stage.ANSWER),
        )  # fmt: skip
        return replace(work, unit="candidates", note=f"{sampling.n} of each task")

    def _score(self, name: str) -> Work:
        n, length = self.config.sampling.n, self.reward_lengths.answer.mean
        # Candidates of a task share its prompt, which is read once.
        tokens = self._tasks * (length + n * (self.config.sampling.max_tokens + 1))
        work = self._reading(f"{name} {Stage.SCORE}", tokens, rows=self._tasks * n, rate=self.rates.get(Stage.SCORE))
        return replace(work, unit="candidates")

    def _select(self, name: str) -> Work:
        members = len(self.config.reward.members)
        tokens = members * self._tasks * self._winner_tokens
        rows = self._tasks * (len(Policy) + members)
        work = self._reading(f"{name} {Stage.SELECT}", tokens, rows=rows, rate=self.rates.get(Stage.SELECT))
        return replace(work, unit="tasks", count=self._tasks, note=f"{members} members score the winners")

    def _judge(self, name: str) -> Work:
        config, rate = self.config.evaluation, self.rates.get(Stage.JUDGE)
        asked = min(self._tasks, config.curve_tasks)
        rows = asked * self.config.sampling.n * sum(one.is_free for one in config.all_judges.values())
        return Work(
            name=f"{name} {Stage.JUDGE}", unit="tasks", count=asked, rows=rows,
            seconds=rate.seconds * rows if rate else None, basis=rate.round if rate else None,
            note="every candidate of them, to tell what selecting is worth" + ("" if rate else "; a judge's time is its own"),
        )  # fmt: skip

    def _paraphrase(self, name: str) -> Work:
        config, rate, length = (
            self.config.instructions.paraphrases,
            self.rates.get(Stage.PARAPHRASE),
            self.writer.lengths.paraphrase,
        )
        assert length is not None, "they are measured where paraphrases are asked for"
        work = self._writing(
            f"{name} {Stage.PARAPHRASE}", self.writer, length,
            prompts=self._tasks, n=config.per_winner, max_tokens=config.max_tokens, rate=rate,
        )  # fmt: skip
        tokens = self._tasks * (1 + config.per_winner) * self._winner_tokens
        scored = 0.0 if rate or config.max_reward_fall is None else self._reading_seconds(tokens)
        seconds = None if work.seconds is None else work.seconds + scored
        return replace(work, unit="paraphrases", seconds=seconds, note=f"{config.per_winner} of each winner")

    def _train(self, name: str) -> Work:
        config, trained = self.config.training, self.trained
        winners, proposals = self._examples()
        rows, rate = winners + proposals, self.rates.get(Stage.TRAIN)
        steps = steps_of(rows, config.batch_size, config.epochs, config.args)
        shape = trained.shape
        assert shape is not None, "what is trained is no endpoint"
        assert trained.config is not None
        length = self._training_length(winners, proposals)
        longest = min(length.longest, config.max_length)
        texts = max(1, config.batch_size // (config.processes * config.accumulate))
        counted = kept_by_generator(
            trained.config, config,
            texts=texts, length=longest, device=self.machine.device, trust_remote_code=self.config.engine.trust_remote_code,
        )  # fmt: skip
        each = length.padded(texts) if config.batching == "plain" else length.mean
        training = Training(
            steps=steps,
            step_tokens=config.batch_size * min(each, config.max_length),
            length=length.mean,
            part_tokens=texts * longest,
            activations=counted or 0,
            trained=config.lora.rank * shape.edges if config.lora else shape.parameters,
            kind=config.dtype,
            computed_twice=config.gradient_checkpointing,
            processes=config.processes,
        )
        return Work(
            name=f"{name} {Stage.TRAIN}", unit="steps", count=steps, rows=1,
            memory=training_memory(training, shape, frozen=frozen_type(config)), available=self.machine.memory,
            seconds=rate.seconds * rows if rate else training_seconds(training, shape, self.machine),
            basis=rate.round if rate else ROOFLINE,
            note=f"{winners:,} winners, {proposals:,} proposals, {config.batch_size} a step" + ("" if counted else UNCOUNTED),
        )  # fmt: skip

    def _evaluate(self, name: str) -> Work:
        samples, sampling, rate = self.config.evaluation.samples, self.config.sampling, self.rates.get(Stage.EVALUATE)
        work = self._writing(
            f"{name} {Stage.EVALUATE}", self.trained, self.trained.lengths.held_out,
            prompts=self.held_out, n=samples, max_tokens=sampling.max_tokens, rate=None,
        )  # fmt: skip
        # A row for each output, one for its reward, one for what each judge says.
        rows = (2 + len(self.config.evaluation.all_judges)) * work.rows
        tokens = self.held_out * (self.reward_lengths.held_out.mean + samples * (sampling.max_tokens + 1))
        if rate:
            work = replace(work, tokens=round(rate.tokens * rows), seconds=rate.seconds * rows, basis=rate.round)
        elif work.seconds is not None:
            work = replace(work, seconds=work.seconds + self._reading_seconds(tokens))
        return replace(
            work, unit="samples", rows=rows, note=f"{samples} of each held-out task; the judge's time is not counted",
            free=self.config.training.student is not None,
        )  # fmt: skip

    def _writing(
        self, name: str, writer: Writer, prompt: Length, *, prompts: int, n: int, max_tokens: int, rate: Rate | None
    ) -> Work:
        texts = prompts * n
        tokens = round(rate.tokens * texts) if rate else texts * max_tokens
        requests = math.ceil(n / self.config.engine.endpoint.most_choices) if writer.engine.name == "openai" else 1
        work = Work(
            name=name, unit="texts", count=texts, rows=texts, tokens=tokens, most_tokens=texts * max_tokens,
            prompt_tokens=round(prompts * requests * prompt.mean), basis=None,
        )  # fmt: skip
        if writer.shape is not None and writer.engine.name != "scripted":
            together, copies = self._together(writer, n, prompt.longest + max_tokens)
            writing = Writing(
                prompts=prompts, n=n, prompt_tokens=prompt.mean, tokens=max_tokens, together=together, batches_at_once=copies
            )
            memory = writing_memory(writing, writer.shape, writer.kind, prompt.longest)
            if writer.engine.name == "vllm" and writer.machine.device == "cuda":
                # It takes what it is given, and has as many texts under way as their keys and values fit into that.
                given = round(self.config.engine.memory * writer.machine.memory)
                one = memory.cache // min(together, texts)
                memory = replace(memory, cache=max(one, given - memory.weights - memory.activations))
            seconds = writing_seconds(writing, writer.shape, writer.machine, writer.kind)
            work = replace(work, memory=memory, available=writer.machine.memory, seconds=seconds, basis=ROOFLINE)
        return replace(work, seconds=rate.seconds * texts, basis=rate.round) if rate else work

    def _together(self, writer: Writer, n: int, tokens: int) -> tuple[int, int]:
        """Texts in a batch, and batches at once."""
        engine = self.config.engine
        if writer.engine.name == "ctranslate2":
            from flywheel.engines.ctranslate2_engine import BATCH

            return max(1, BATCH // n) * n, workers(engine)
        if writer.engine.name == "vllm":
            return SERVED, 1
        return max(1, engine.batch_tokens // (tokens * n)) * n, 1

    def _reading(self, name: str, tokens: float, *, rows: int, rate: Rate | None) -> Work:
        seconds = rate.seconds * rows if rate else self._reading_seconds(tokens)
        memory = reading_memory(self.reward, batch_tokens=batch_tokens(self.config, self.reward, self.machine))
        basis = rate.round if rate else ROOFLINE
        return Work(
            name=name, unit="texts", count=rows, rows=rows, memory=memory, available=self.machine.memory,
            seconds=seconds, basis=basis,
        )  # fmt: skip

    def _reading_seconds(self, tokens: float) -> float:
        return reading_seconds(self.reward, self.machine, tokens=tokens, context=self._winner_tokens)

    @property
    def _winner_tokens(self) -> float:
        """Of a task with an output, as the reward model reads them."""
        return self.reward_lengths.answer.mean + self.config.sampling.max_tokens + 1

    def _examples(self) -> tuple[int, int]:
        """Winners and proposals that are trained on, at most."""
        config, per_winner = self.config.training, self.config.instructions.paraphrases.per_winner
        if config.proposal_share == 1:
            return 0, self._tasks
        winners = self._tasks * (1 + (per_winner if config.paraphrases else 0))
        winners += self.earlier_winners if config.data == "accumulate" else 0
        return winners, min(round(winners * config.proposal_share / (1 - config.proposal_share)), self._tasks)

    def _training_length(self, winners: int, proposals: int) -> Length:
        """Of the texts that are trained on, mixed as they will be."""
        lengths, end = self.trained.lengths, 1
        answers = [count + self.config.sampling.max_tokens + end for count in lengths.answer.counts]
        proposed = [one + task + end for one, task in zip(lengths.propose.counts, lengths.task.counts, strict=False)]
        wanted = round(len(answers) * proposals / winners) if winners else 0
        rng = seeded("dry-run", self.config.seed)
        counts = answers + rng.choices(proposed, k=wanted) if winners else proposed
        rng.shuffle(counts)
        return Length(counts=tuple(counts))
