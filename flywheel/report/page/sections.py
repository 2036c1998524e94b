"""What the sections of the page show besides charts: numbers, tables, and notes on what is missing."""

from __future__ import annotations

from collections.abc import Iterator

from flywheel.evaluation.trend import Step
from flywheel.report.page.figures import Figures, curve_rows, step_row
from flywheel.report.page.tables import DELTA, Table, duration, measure_tables, tables
from flywheel.store.report_rows import Row

Tables = tuple[Table, ...]


def tiles_of(figures: Figures) -> dict[str, str]:
    """All rounds in a few numbers."""
    done = [row for row in figures.turns if row["number"] > 0 and row["status"] == "done"]
    seconds, tokens, cost = (sum(row[name] or 0 for row in figures.stages) for name in ("seconds", "tokens", "cost"))
    kept, candidates, winners = (sum(row[name] for row in figures.rounds) for name in ("kept", "candidates", "winners"))
    tiles = {"finished rounds": f"{len(done):,}", "tasks kept": f"{kept:,}", "candidates": f"{candidates:,}"}
    tiles |= {"winners": f"{winners:,}", "tokens generated": _brief(tokens), "computing time": duration(seconds)}
    return tiles | ({"cost": f"{cost:,.2f}"} if cost else {})


def _brief(count: int) -> str:
    for limit, size, unit in ((1e9, 1e9, "B"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if count >= limit:
            return f"{count / size:.1f} {unit}"
    return f"{count:,}"


def headlines_of(figures: Figures) -> list[Step]:
    """The newest comparison of each kind."""
    last = [steps[-1] for steps in _chains(figures) if steps]
    return list({(step.round, step.base): step for step in last}.values())


def _chains(figures: Figures) -> list[tuple[Step, ...]]:
    trend = figures.trend
    return [] if trend is None else [trend.against_parent, trend.against_first, trend.against_control]


def notes_of(figures: Figures) -> dict[str, list[str]]:
    """What is missing, and the command or setting that adds it, by section."""
    missing = {
        "rounds": [] if figures.measured("heldout.judge") else ["No round is evaluated by a judge yet."],
        "tasks": [] if figures.drops else ["No tasks were proposed yet."],
        "outputs": [] if figures.lengths else ["No candidates were generated yet."],
        "reward-model": [] if figures.models else ["No round has a reward model yet. Run `flywheel reward build`."],
        "cost": [] if figures.stages else ["No stage has started yet."],
    }
    return missing | {"verdicts": list(_verdict_notes(figures)), "selecting": list(_selection_notes(figures))}


def _verdict_notes(figures: Figures) -> Iterator[str]:
    if figures.no_trend:
        yield f"The rounds cannot be compared: {figures.no_trend.rstrip('.')}."
    if figures.trend is not None:
        yield from (f"Skipped: {reason.rstrip('.')}." for reason in figures.trend.skipped)
    done = [row["round"] for row in figures.turns if row["status"] == "done"]
    if not done:
        yield "No round is finished, so there is no verdict. Run `flywheel round` to resume."
    elif len(done) == 1:
        yield f"Only {done[0]} is finished, so there is nothing to compare it with. Run `flywheel round` for the next round."
    elif len(figures.turns) == len(figures.rounds):
        yield "There is no control. `flywheel round --control random` also trains a generator on random candidates."
    for row in figures.rounds:
        if row["status"] != "done":
            where = f"in the stage {row['unfinished']}" if row["unfinished"] else "between two stages"
            yield f"{row['round']} is not finished: it is {row['status']}, {where}. Run `flywheel round` to resume it."


def _selection_notes(figures: Figures) -> Iterator[str]:
    if not any(row["number"] > 0 for row in figures.rounds):
        yield "No round has candidates yet."
    elif not figures.curves:
        yield "The judge scored no candidates, so there is no best-of-N curve and the policies have a reward only."
        yield "Set `evaluation.curve_tasks` to the number of tasks whose candidates the judge scores."
    for name, curve in figures.curves.items():
        if curve.over_optimized_after is not None:
            yield f"{name}: over-optimization after N = {curve.over_optimized_after}: the reward rises and the judge falls."


def tables_of(figures: Figures) -> dict[str, Tables]:
    """The tables of each section: the rows of its charts as numbers, and what has no chart."""
    held_out = {"heldout.judge": "judge", "heldout.reward": "reward", "heldout.perplexity": "perplexity of the references"}
    held_out |= {
        row["name"]: row["name"].replace("heldout.", "").replace(".", " ", 1)
        for row in figures.measures
        if row["name"].startswith("heldout.judge.")
    }
    outputs = {"heldout.tokens": "tokens", "heldout.finish_rate": "finish rate", "heldout.diversity": "output diversity"}
    return {
        "verdicts": _comparisons(figures),
        "rounds": measure_tables("Held-out scores of every round", figures.measures, held_out),
        "selecting": _selection(figures),
        "tasks": _tasks(figures),
        "outputs": _lengths(figures) + measure_tables("Held-out outputs of every round", figures.measures, outputs),
        "reward-model": tuple(table for model in figures.models for table in _model(model)),
        "cost": _stages(figures),
    }


def _comparisons(figures: Figures) -> Tables:
    columns = {
        "comparison": "{pair}", "verdict": "{verdict}", "judge before": "{before:.3f}", "after": "{after:.3f}",
        "Δ judge": DELTA, "p": "{p:.2g}", "Δ reward": "{reward:+.2f} ({reward_low:+.2f} to {reward_high:+.2f})",
        "tasks": "{tasks:,}",
    }  # fmt: skip
    return tables("All comparisons", [step_row(step) for steps in _chains(figures) for step in steps], columns)


def _selection(figures: Figures) -> Tables:
    policies = {
        "round": "{round}", "policy": "{policy}", "judge": "{judge:.3f}", "Δ judge vs. best-of-N": DELTA,
        "reward": "{reward:+.2f}", "tokens": "{tokens:.1f}", "tasks": "{tasks:,}",
    }  # fmt: skip
    points = {
        "round": "{round}", "N": "{n:d}", "KL bound (nats)": "{kl:.2f}",
        "judge": "{judge:.3f} ({judge_low:.3f} to {judge_high:.3f})",
        "reward": "{reward:.2f} ({reward_low:.2f} to {reward_high:.2f})", "tasks": "{tasks:,}",
    }  # fmt: skip
    return tables("Selection policies", figures.policies, policies) + tables("Best-of-N curve", curve_rows(figures), points)


def _tasks(figures: Figures) -> Tables:
    attempts = {
        "round": "{round}", "origin": "{origin}", "result": "{reason}", "attempts": "{attempts:,}", "share": "{share:.1f} %",
        "first example, as generated": "{example}",
    }  # fmt: skip
    diversity = {
        "tasks.distinct_1": "distinct-1", "tasks.distinct_2": "distinct-2", "tasks.self_bleu": "self-BLEU",
        "tasks.compression_ratio": "compression ratio", "tasks.novel": "novel", "tasks.kinds": "kinds",
        "tasks.sample": "sampled tasks",
    }  # fmt: skip
    by_result = tables("Attempts by result", figures.drops, attempts)
    return by_result + measure_tables("Diversity of the kept tasks", figures.measures, diversity)


def _lengths(figures: Figures) -> Tables:
    columns = {
        "round": "{round}", "candidates": "{candidates}", "count": "{count:,}", "mean tokens": "{value:.1f}",
        "10th to 90th percentile": "{low:.0f} to {high:.0f}", "finish rate": "{finished:.1f} %",
    }  # fmt: skip
    return tables("Length of the candidates", figures.lengths, columns)


def _model(model: Row) -> Tables:
    rounds, sets = model["rounds"], list(dict.fromkeys(name for part in model["parts"] for name in part["accuracy"]))
    used = f"{rounds[0]} to {rounds[-1]}" if len(rounds) > 2 else " and ".join(rounds)
    title = ", ".join(filter(None, [model["model_id"], model["how"], f"selects in {used}"]))
    parts = [part | {f"s{place}": part["accuracy"].get(name) for place, name in enumerate(sets)} for part in model["parts"]]
    columns = {"model": "{model}", "weight": "{weight:g}", "rows": "{rows:,}"}
    columns |= {name: f"{{s{place}:.3f}}" for place, name in enumerate(sets)} | {"average": "{average:.3f}"}
    return tables(title, parts, columns, folded=False)


def _stages(figures: Figures) -> Tables:
    sums: dict[str, Row] = {}
    for row in figures.stages:
        total = sums.setdefault(row["round"], {"round": row["round"]})
        for name in ("seconds", "prompt_tokens", "tokens", "cost"):
            total[name] = (total.get(name) or 0) + (row[name] or 0) or None
    totals = {
        "round": "{round}", "time": "{time:}", "prompt tokens": "{prompt_tokens:,}", "tokens generated": "{tokens:,}",
        "cost": "{cost:,.4f}",
    }  # fmt: skip
    stages = {
        "round": "{round}", "stage": "{stage}", "rows": "{rows:,}", "prompt tokens": "{prompt_tokens:,}",
        "tokens generated": "{tokens:,}", "seconds": "{seconds:,.1f}", "tokens/s": "{speed:,.0f}", "cost": "{cost:,.4f}",
        "state": "{state}",
    }  # fmt: skip
    timed = [row | {"time": duration(row["seconds"] or 0)} for row in sums.values()]
    return tables("Totals", timed, totals, folded=False) + tables("Every stage", figures.stages, stages)
