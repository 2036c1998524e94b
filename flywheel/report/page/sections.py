"""What each part of the page says: its sentences, charts and tables, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flywheel.evaluation.trend import Step, Trend
from flywheel.report.page.charts import Chart
from flywheel.report.page.figures import Figures
from flywheel.report.page.grids import (
    Grid,
    curve_grids,
    drop_grids,
    length_grids,
    measured_grids,
    merge_grid,
    policy_grids,
    stage_grids,
    step_grids,
    time_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A verdict: its word, what is compared, the sentence, and what speaks against it."""

    word: str
    title: str
    sentence: str
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Verdicts of one kind of comparison, in order."""

    title: str
    told: tuple[Told, ...]
    folded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page."""

    id: str
    short: str
    """Its name in the bar."""
    title: str
    lead: str
    charts: tuple[Chart, ...] = ()
    chains: tuple[Chain, ...] = ()
    grids: tuple[Grid, ...] = ()
    notes: tuple[str, ...] = ()
    """What is missing, and what gives it."""


def tiles_of(figures: Figures) -> tuple[tuple[str, str], ...]:
    """The whole wheel in a few numbers."""
    done = [one for one in figures.turns if one.number > 0 and one.status == "done"]
    seconds, cost = sum(one.seconds for one in figures.stages), sum(one.cost for one in figures.stages)
    tokens = sum(one.tokens for one in figures.stages)
    found = [
        ("rounds done", f"{len(done):,}"),
        ("tasks kept", f"{sum(one.kept for one in figures.rounds):,}"),
        ("candidates", f"{sum(one.candidates for one in figures.rounds):,}"),
        ("winners", f"{sum(one.winners for one in figures.rounds):,}"),
        ("tokens written", _brief(tokens)),
        ("time of work", time_of(seconds)),
    ]
    return (*found, *([("cost", f"{cost:,.2f}")] if cost else []))


def headlines_of(figures: Figures) -> tuple[Told, ...]:
    """What a reader in a hurry takes away."""
    trend = figures.trend
    if trend is None:
        return ()
    chains = {"parent": trend.against_parent, "first": trend.against_first, "control": trend.against_control}
    last = {name: steps[-1] for name, steps in chains.items() if steps}
    if "first" in last and "parent" in last and last["first"].base == last["parent"].base:
        del last["first"]
    return tuple(_told(step) for step in last.values())


def _told(step: Step) -> Told:
    return Told(
        word=str(step.comparison.verdict),
        title=f"{step.round} against {step.base}",
        sentence=step.comparison.sentence,
        doubts=tuple(step.comparison.caveats),
    )


def sections_of(figures: Figures, charts: Mapping[str, Chart]) -> tuple[Section, ...]:
    """All parts of the page but the tasks, in order."""
    makers = (_verdicts, _growth, _selecting, _tasks, _outputs, _reward_model, _cost)
    return tuple(maker(figures, charts) for maker in makers)


def _of(charts: Mapping[str, Chart], *names: str) -> tuple[Chart, ...]:
    return tuple(charts[name] for name in names if name in charts)


def _verdicts(figures: Figures, charts: Mapping[str, Chart]) -> Section:
    return Section(
        id="verdicts",
        short="Verdicts",
        title="Did it get better?",
        lead="Differences of the judge on held-out tasks, paired by task. The judge never selects, so only it can say "
        "improved. Intervals are corrected for the number of comparisons in a chain (Holm); the grey band counts as flat.",
        charts=_of(charts, "judge-against-parent", "judge-against-first", "judge-against-control"),
        chains=_chains(figures.trend),
        grids=tuple(step_grids(figures.trend)),
        notes=tuple(_verdict_notes(figures)),
    )


def _chains(trend: Trend | None) -> tuple[Chain, ...]:
    if trend is None:
        return ()
    named = (
        ("Each round against the one before", trend.against_parent, False),
        ("Each round against the same round trained on other picks", trend.against_control, False),
        ("Each round against the first", trend.against_first, True),
    )
    return tuple(
        Chain(title=title, told=tuple(_told(step) for step in steps), folded=folded) for title, steps, folded in named if steps
    )


def _verdict_notes(figures: Figures) -> Iterator[str]:
    trend = figures.trend
    if figures.why_no_trend:
        yield f"The rounds cannot be compared: {figures.why_no_trend}."
    if trend is not None:
        yield from (f"Left out: {reason}." for reason in trend.skipped)
    done = [one for one in figures.turns if one.status == "done"]
    if len(done) == 1:
        yield f"Only {done[0].round} is done, so there is nothing to compare it with; `flywheel round` turns the wheel."
    if not done:
        yield "No round is done, so there is no verdict; `flywheel round` goes on with what is begun."
    if len(done) > 1 and all(one.is_turn for one in figures.rounds):
        yield "There is no control; `flywheel round --control random` trains and evaluates a generator on random picks, too."
    for one in figures.rounds:
        if one.status != "done":
            at = f"at {one.unfinished}" if one.unfinished else "between two stages"
            yield f"{one.round} is not finished: it is {one.status}, {at}. `flywheel round` goes on with it."


def _growth(figures: Figures, charts: Mapping[str, Chart]) -> Section:
    names = {
        "heldout.judge": "judge", "heldout.reward": "reward", "heldout.perplexity": "perplexity of the references",
        "heldout.finish_rate": "ends by itself", "heldout.tokens": "tokens", "heldout.diversity": "words of its own",
    }  # fmt: skip
    names |= {
        one.name: f"judge {one.name.removeprefix('heldout.judge.')}"
        for one in figures.measures
        if one.name.startswith("heldout.judge.")
    }
    return Section(
        id="rounds",
        short="Reward and judge",
        title="Reward against judge",
        lead="Both are measured on the same held-out tasks in every round. A reward that rises while the judge does not means "
        "that the generator has learnt to please the reward model.",
        charts=_of(charts, "judge", "reward", "judge-by-reward"),
        grids=tuple(measured_grids(figures.measures, names, "Held-out figures of every round")),
        notes=() if figures.measured("heldout.judge") else ("No round is evaluated by a judge yet.",),
    )


def _selecting(figures: Figures, charts: Mapping[str, Chart]) -> Section:
    notes = []
    if not figures.curves and any(one.number > 0 for one in figures.rounds):
        notes.append(
            "The judge was asked about no candidates, so there is no curve and no control policy has its judgement; "
            "`evaluation.curve_tasks` says of how many tasks it is asked."
        )
    if not any(one.number > 0 for one in figures.rounds):
        notes.append("No round has candidates yet.")
    notes += [
        f"{name}: over-optimization after N = {curve.over_optimized_after}: the reward still rises and the judge falls."
        for name, curve in figures.curves.items()
        if curve.over_optimized_after is not None
    ]
    return Section(
        id="selecting",
        short="Selecting",
        title="What selecting is worth",
        lead="The expected judge and reward of the best of N candidates, and what other ways of picking from the same "
        "candidates would have given. Bands and lines upright are intervals; of many curves the last has its band.",
        charts=_of(charts, "best-of-n-judge", "best-of-n-reward", "policies-judge", "policies-reward"),
        grids=(*policy_grids(figures), *curve_grids(figures)),
        notes=tuple(notes),
    )


def _tasks(figures: Figures, charts: Mapping[str, Chart]) -> Section:
    names = {
        "tasks.distinct_1": "distinct-1", "tasks.distinct_2": "distinct-2", "tasks.self_bleu": "self-BLEU",
        "tasks.compression_ratio": "compression", "tasks.novel": "novel", "tasks.kinds": "kinds", "tasks.sample": "of tasks",
    }  # fmt: skip
    diverse = tuple(measured_grids(figures.measures, names, "Diversity of the kept tasks"))
    notes = () if figures.drops else ("No tasks were proposed yet.",)
    return Section(
        id="tasks",
        short="Tasks made",
        title="The tasks that were made",
        lead="Every attempt is kept with the reason for which it was dropped. Distinct-2 is the share of word pairs that "
        "are distinct, self-BLEU how alike the tasks are, novel the share of instructions unlike every earlier one.",
        charts=_of(charts, "drops", "diversity"),
        grids=(*drop_grids(figures.drops), *diverse),
        notes=notes,
    )


def _outputs(figures: Figures, charts: Mapping[str, Chart]) -> Section:
    return Section(
        id="outputs",
        short="Outputs",
        title="The outputs",
        lead="Length in tokens, with the middle four fifths of the candidates, and how many of its words an output has for "
        "itself. A generator that learns to be long, or to say the same to everything, shows here first.",
        charts=_of(charts, "length", "heldout-length", "own-words"),
        grids=tuple(length_grids(figures.lengths)),
        notes=() if figures.lengths else ("No candidates were written yet.",),
    )


def _reward_model(figures: Figures, charts: Mapping[str, Chart]) -> Section:
    return Section(
        id="reward-model",
        short="Reward model",
        title="The reward model",
        lead="The only thing that selects: members merged into one. Accuracy is on held-out preferences of each set.",
        grids=tuple(merge_grid(one) for one in figures.merges),
        notes=() if figures.merges else ("No round has a reward model yet; `flywheel reward build` makes one.",),
    )


def _cost(figures: Figures, charts: Mapping[str, Chart]) -> Section:
    return Section(
        id="cost",
        short="Cost",
        title="Time, tokens and cost",
        lead="Working time of the committed chunks; waiting and killed work are not counted. Cost is what an endpoint charges.",
        charts=_of(charts, "stages"),
        grids=tuple(stage_grids(figures.stages)),
        notes=() if figures.stages else ("No stage was begun yet.",),
    )


def _brief(count: int) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if count >= size:
            return f"{count / (1e3 if unit == 'k' else size):.1f} {unit}"
    return f"{count:,}"
