"""The build of the reward model, planned: slice, joint training, members, merge."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flywheel.config import Config
from flywheel.estimate.activations import kept_by_member
from flywheel.estimate.machine import Machine
from flywheel.estimate.plan import UNCOUNTED, Work, steps_of
from flywheel.estimate.roofline import Memory, Training, reading_memory, reading_seconds, training_memory, training_seconds
from flywheel.estimate.sizes import Shape
from flywheel.estimate.texts import RENDERED, Length, Tokens
from flywheel.instructions.prompts import Prompts
from flywheel.reward.data import PreferenceSet, Row, pool
from flywheel.reward.recipe import TrainingSettings, joint_settings, member_settings
from flywheel.reward.sources import Split
from flywheel.reward.text import answer_texts

if TYPE_CHECKING:
    from transformers import PretrainedConfig

REFERENCE_TEXTS = 1024
"""Of the set that scores are standardised on, as `flywheel.reward.build` has it."""
ROWS = 1000
"""That the self-test of a reward model reads, as `flywheel.reward.check` has it."""
NOT_HERE = "the data is not on this machine yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """What the pieces of a build have in common."""

    config: Config
    whole: Shape
    """A reward model of all layers of the base."""
    sliced: PretrainedConfig
    shape: Shape
    """The reward model."""
    machine: Machine
    prompts: Prompts
    tokens: Tokens
    """How the base counts."""

    def work(self, sets: Mapping[str, PreferenceSet]) -> Iterator[Work]:
        """All pieces in order; of a member whose set is not in ``sets`` only the name is known."""
        reward, members = self.config.reward, self.config.reward.members
        complete = len(sets) == len(members)
        yield self._moving("slice", self.whole.parameters + self.shape.parameters)
        if reward.joint.epochs:
            yield self._training("joint", pool(sets, seed=reward.seed) if complete else None, joint_settings(reward))
        for name, member in members.items():
            yield self._training(f"member {name}", sets.get(name), member_settings(reward, member))
        validation = [row for one in sets.values() for row in one.of(Split.VALIDATION)] if complete else []
        if reward.search.trials:
            yield self._search(validation)
        merge = self._moving("merge", (len(members) + 2) * self.shape.parameters)
        tested = self._reading("", REFERENCE_TEXTS + _answers(validation[:ROWS]), validation)
        yield replace(merge, seconds=None if tested.seconds is None else (merge.seconds or 0.0) + tested.seconds)
        # Each model that is made: the scale over the reference texts, the accuracies on all held-out rows.
        made = len(members) + 1 + bool(reward.joint.epochs)
        held_out = [*validation, *(row for one in sets.values() for row in one.of(Split.TEST))] if complete else []
        yield self._reading("reward accuracies", made * (REFERENCE_TEXTS + _answers(held_out)), held_out)

    def _training(self, name: str, data: PreferenceSet | None, settings: TrainingSettings) -> Work:
        if data is None:
            return Work(name=name, unit="steps", count=None, basis=None, note=NOT_HERE)
        rows = data.of(Split.TRAIN)
        per_row = 1 if data.kind == "thumbs" else 2
        length, texts = self._lengths(rows), settings.batch_size * per_row
        longest = min(length.longest, settings.max_length)
        counted = kept_by_member(self.sliced, texts=texts, length=longest, device=self.machine.device)
        args = {**settings.args, **settings.own_args}
        steps = steps_of(len(rows), settings.batch_size, settings.epochs, args)
        training = Training(
            steps=steps,
            step_tokens=texts * min(length.padded(texts), settings.max_length),
            length=length.mean,
            part_tokens=texts * longest,
            activations=counted or 0,
            trained=settings.lora.rank * self.shape.edges if settings.lora else self.shape.parameters,
        )
        return Work(
            name=name, unit="steps", count=steps,
            memory=training_memory(training, self.shape), available=self.machine.memory,
            seconds=training_seconds(training, self.shape, self.machine),
            note=f"{len(rows):,} {data.kind}, {settings.batch_size} a step" + ("" if counted else UNCOUNTED),
        )  # fmt: skip

    def _search(self, validation: Sequence[Row]) -> Work:
        search = self.config.reward.search
        # Each halving reads three times the rows with a third of the merges.
        texts = (search.halvings + 1) * search.trials * _answers(validation) // 3**search.halvings
        return self._reading("search", texts, validation)

    def _reading(self, name: str, texts: int, rows: Sequence[Row]) -> Work:
        """So many texts that are like those of the rows."""
        if not rows:
            return Work(name=name, unit="texts", count=None, basis=None, note=NOT_HERE)
        length = self._lengths(rows)
        memory = reading_memory(self.shape, batch_tokens=batch_tokens(self.config, self.shape, self.machine))
        return Work(
            name=name, unit="texts", count=texts, memory=memory, available=self.machine.memory,
            seconds=reading_seconds(self.shape, self.machine, tokens=texts * length.mean, context=length.mean),
        )  # fmt: skip

    def _moving(self, name: str, parameters: int) -> Work:
        """Weights that are read and written, by memory's speed; what a disk takes longer is not known."""
        seconds = 2 * 4 * parameters / self.machine.bandwidth
        return Work(
            name=name,
            unit="models",
            count=1,
            memory=Memory(weights=4 * parameters),
            available=self.machine.memory,
            seconds=seconds,
        )

    def _lengths(self, rows: Sequence[Row]) -> Length:
        """Of some of them, evenly drawn, with the end mark."""
        some = itertools.islice(rows, 0, None, max(1, len(rows) // (4 * RENDERED)))
        counts = self.tokens(answer_texts(self.prompts, [answer for row in some for answer in row.answers], ""))
        return Length(counts=tuple(count + 1 for count in counts))


def _answers(rows: Sequence[Row]) -> int:
    return sum(len(row.answers) for row in rows)


def batch_tokens(config: Config, shape: Shape, machine: Machine) -> int:
    """How many tokens a reward model scores at once."""
    from flywheel.reward.network import ACTIVATIONS_BYTES, GPU_TOKENS

    fastest = GPU_TOKENS if machine.device == "cuda" else max(128, ACTIVATIONS_BYTES // (4 * shape.widest))
    return config.reward.batch_tokens or fastest
