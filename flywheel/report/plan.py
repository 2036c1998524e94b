"""How a dry run is told: the engine and why, a line for each piece of work, the sums, and what to be aware of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from flywheel.report.tables import print_json, print_line, print_table
from flywheel.store.reading import Table

if TYPE_CHECKING:
    from flywheel.estimate.plan import Plan

ROOFLINE = "roofline"
COLUMNS = ("work", "count", "of", "tokens", "at most", "read", "memory", "time", "cost", "")
WORDS = ("work", "of", "")


def print_plan(plan: Plan, *, as_json: bool) -> None:
    """A plan for a person, or as JSON."""
    if as_json:
        print_json(plan.as_json())
        return
    machine = plan.machine
    rates = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {kind}" for kind, rate in machine.operations.items())
    print_line(f"dry run of {plan.round}: nothing is changed")
    print_line(f"engine: {plan.engine.name} ({plan.engine.why})")
    print_line(f"machine: {machine.name}, {_bytes(machine.memory)} of memory, {machine.bandwidth / 1e9:,.1f} GB/s, {rates}")
    for name, shape in plan.models.items():
        print_line(f"{name}: {shape.kind}, {shape.layers} layers, {shape.parameters:,} parameters")
    if plan.done:
        print_line(f"done already: {', '.join(plan.done)}")
    print_line()
    print_table(_table(plan))
    print_line()
    for line in _words(plan):
        print_line(line)


def _table(plan: Plan) -> Table:
    priced = any(plan.prices.model_dump().values())
    total = plan.total
    rows = [
        {
            "work": one.name,
            "count": "?" if one.count is None else f"{one.count:,}",
            "of": one.unit,
            "tokens": _number(one.tokens),
            "at most": _number(one.most_tokens),
            "read": _number(one.prompt_tokens),
            "memory": _bytes(one.memory.total) if one.memory else "",
            "time": "?" if one.seconds is None else _duration(one.seconds),
            "cost": f"{plan.cost(one):,.2f}",
            "": one.note,
        }
        for one in plan.work
    ]
    sums = {
        "work": "in all",
        "tokens": _number(total["tokens"]),
        "at most": _number(total["most_tokens"]),
        "read": _number(total["prompt_tokens"]),
        "memory": _bytes(total["memory"]),
        "time": _duration(total["seconds"]),
        "cost": f"{total['cost']:,.2f}",
    }
    columns = [name for name in COLUMNS if name != "cost" or priced]
    cells = {name: _aligned([name, *(row.get(name, "") for row in (*rows, sums))], right=name not in WORDS) for name in columns}
    lines = list(zip(*cells.values(), strict=True))
    return Table(columns=lines[0], rows=lines[1:])


def _words(plan: Plan) -> Iterator[str]:
    """What the figures are, then what is not known, then what will not do."""
    measured = sorted({one.basis for one in plan.work if one.basis not in (None, ROOFLINE)})
    by = [f"what {', '.join(measured)} took with the same settings"] if measured else []
    if any(one.basis == ROOFLINE for one in plan.work):
        by.append("the machine's rates and texts as long as they may be, which has been within a factor of three")
    yield "exact: candidates, samples and steps, if every task is kept and has a winner; an upper bound: tokens at most"
    yield f"estimates: tokens read, as the seeds make prompts; memory, of the numbers alone; time, by {', else by '.join(by)}"
    if unknown := [one.name for one in plan.work if one.seconds is None]:
        yield f"not known, and not in the sums: how long {', '.join(unknown)} will take"
    for note in plan.notes:
        yield f"note: {note}"
    for warning in plan.warnings:
        yield f"warning: {warning}"


def _aligned(texts: Sequence[str], *, right: bool) -> list[str]:
    width = max(len(text) for text in texts)
    return [text.rjust(width) if right else text for text in texts]


def _number(value: int) -> str:
    return f"{value:,}" if value else ""


def _bytes(value: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if value >= size:
            return f"{value / size:,.1f} {unit}"
    return f"{value / 1024:,.0f} KiB"


def _duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 120:
        return f"{seconds:,.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:,.0f} min"
    return f"{seconds / 3600:,.1f} h"
