"""What the page shows of the rounds, as frozen records: asked of the store once, drawn and told elsewhere.

Whatever is not there (no verdict, no judge, no control) is an empty field, and `sections` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from flywheel.core.safe_text import visible
from flywheel.errors import FlywheelError
from flywheel.evaluation.best_of_n import Curve, PolicyFigures, curve_of, policies_of
from flywheel.evaluation.trend import Trend, trend
from flywheel.records import Facts, Policy
from flywheel.store import paging
from flywheel.store.facts import facts_from_json
from flywheel.store.reading import Table
from flywheel.store.store import Store

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundLine:
    """A round, or a control beside it, at a glance."""

    round: str
    number: int
    parent: str | None
    policy: str
    status: str
    generator: str | None
    """What its config names as the generator."""
    reward_model: str | None
    judge: str | None
    """Name of the judge that decides."""
    n: int
    """Candidates of a task, as its config says."""
    proposed: int
    kept: int
    candidates: int
    winners: int
    verdict: str | None
    unfinished: str | None
    """The first stage that is not done; None where all that were begun are."""

    @property
    def is_turn(self) -> bool:
        """Whether it is a turn of the wheel, and no control."""
        return self.policy == Policy.BEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A figure of a round, with its interval where it is an estimate."""

    round: str
    number: int
    policy: str
    name: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """What one policy picked in a round: the mean reward of all its picks."""

    round: str
    number: int
    policy: str
    tasks: int
    reward: float | None
    tokens: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """How long the candidates of a round are, in tokens, the winners apart."""

    round: str
    number: int
    of: str
    """all or winners."""
    count: int
    mean: float
    low: float
    """A tenth is shorter."""
    high: float
    """A tenth is longer."""
    stopped: float
    """Share that ended by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """How many attempts of a round met the same fate."""

    round: str
    number: int
    origin: str
    fate: str
    """kept, or the reason."""
    attempts: int
    example: str
    """What the generator wrote for one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLine:
    """What one stage of a round took."""

    round: str
    number: int
    stage: str
    rows: int
    prompt_tokens: int
    tokens: int
    seconds: float
    cost: float
    finished: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A member of a reward model, or the merge itself."""

    name: str
    kind: str
    """member or reward."""
    weight: float | None
    rows: int | None
    """Rows that it was trained on."""
    accuracy: Mapping[str, float]
    """On the held-out rows of each set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """A reward model that selected, with what it was merged from."""

    model_id: str
    rounds: tuple[str, ...]
    method: str | None
    settings: Mapping[str, Any]
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All that the page shows but the tasks."""

    rounds: tuple[RoundLine, ...]
    trend: Trend | None
    why_no_trend: str | None
    measures: tuple[Measure, ...]
    curves: Mapping[str, Curve]
    """By round, where the judge was asked about candidates."""
    policies: Mapping[str, Sequence[PolicyFigures]]
    """By round, where the judge was asked about candidates."""
    picks: tuple[Pick, ...]
    lengths: tuple[Length, ...]
    drops: tuple[Drop, ...]
    stages: tuple[StageLine, ...]
    merges: tuple[Merge, ...]

    @property
    def turns(self) -> tuple[RoundLine, ...]:
        """The turns of the wheel, r0 among them, without the controls."""
        return tuple(one for one in self.rounds if one.is_turn)

    def measured(self, name: str) -> tuple[Measure, ...]:
        """One figure of every round that has it."""
        return tuple(one for one in self.measures if one.name == name)


def gather(store: Store) -> Figures:
    """Everything at once; raises StoreError where the workspace has no round."""
    path, rounds = store.path, _records(RoundLine, paging.rounds(store.path))
    found, why = _trend(store)
    made = [one for one in store.rounds() if one.number > 0 and one.reward_model]
    curves = {one.round: curve for one in made if (curve := curve_of(store, one)) is not None}
    policies = {one.round: figures for one in made if (figures := policies_of(store, one))}
    return Figures(
        rounds=rounds,
        trend=found,
        why_no_trend=why,
        measures=_records(Measure, paging.measures(path)),
        curves=curves,
        policies=policies,
        picks=_records(Pick, paging.picks(path)),
        lengths=_records(Length, paging.lengths(path)),
        drops=_drops(path),
        stages=_records(StageLine, paging.stages(path)),
        merges=_merges(path),
    )


def _trend(store: Store) -> tuple[Trend | None, str | None]:
    """A store that cannot be compared can still be shown."""
    try:
        return trend(store), None
    except FlywheelError as error:
        return None, str(error)


def _records(kind: type[Record], found: Table) -> tuple[Record, ...]:
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return tuple(kind(**{name: value for name, value in row.items() if name in names}) for row in found.as_dicts())


def _drops(path: Path) -> tuple[Drop, ...]:
    # A reason of a filter of the user's own may quote a model; what draws the charts fails on its line ends.
    return tuple(replace(one, fate=visible(one.fate)) for one in _records(Drop, paging.drops(path)))


def _merges(path: Path) -> tuple[Merge, ...]:
    members = {
        row["model_id"]: _part(row["name"], "member", facts_from_json(row["facts"]), None)
        for row in paging.members(path).as_dicts()
    }
    used = paging.reward_models(path).as_dicts()
    return tuple(_merge(row["model_id"], row["rounds"], facts_from_json(row["facts"]), members) for row in used)


def _merge(model_id: str, rounds: Sequence[str], facts: Facts, members: Mapping[str, Part]) -> Merge:
    settings = dict(facts.merge)
    found = [members[member] for member in facts.members if member in members]
    return Merge(
        model_id=model_id,
        rounds=tuple(rounds),
        method=str(settings.pop("method")) if "method" in settings else None,
        settings=settings,
        parts=(
            *(replace(one, weight=facts.weights.get(one.name)) for one in found),
            _part("merged", "reward", facts, None),
        ),
    )


def _part(name: str, kind: str, facts: Facts, weight: float | None) -> Part:
    return Part(name=name, kind=kind, weight=weight, rows=facts.rows or None, accuracy=facts.accuracy)
