"""A dry run as text: the engine and why, a line for each piece of work, the sums, and the warnings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flywheel.report.tables import print_json, print_line, print_table
from flywheel.store.reading import Table

if TYPE_CHECKING:
    from flywheel.estimate.plan import Plan

COLUMNS = ("work", "count", "unit", "tokens", "token cap", "prompt tokens", "memory", "time", "cost", "note")
LEFT_ALIGNED = ("work", "unit", "note")


def print_plan(plan: Plan, *, as_json: bool) -> None:
    """A plan as text, or as JSON."""
    if as_json:
        print_json(plan.as_json())
        return
    print_line(f"dry run of {plan.round}: nothing is written")
    print_line(f"engine: {plan.engine.name} ({plan.engine.why})")
    for name, shape in plan.models.items():
        print_line(f"{name}: {shape.kind}, {shape.layers} layers, {shape.parameters:,} parameters")
    if plan.done:
        print_line(f"already done: {', '.join(plan.done)}")
    print_line()
    print_table(_table(plan))
    print_line()
    measured = sorted({work.basis for work in plan.work if work.basis})
    print_line("counts are exact if every task is kept and has a winner; token caps are upper bounds")
    print_line("memory is weights, gradients, Adam states and logits; activations and key-value caches come on top")
    print_line(f"time is what {', '.join(measured)} took with these settings" if measured else "time is known after a round")
    for label, texts in (("note", plan.notes), ("warning", plan.warnings)):
        for text in texts:
            print_line(f"{label}: {text}")


def _table(plan: Plan) -> Table:
    total = {"name": "total", "unit": "", "count": 0, "note": "", **plan.total}
    priced = any(plan.prices.model_dump().values())
    rows = [
        [
            row["name"], _number(row["count"]), row["unit"], _number(row["tokens"]), _number(row["most_tokens"]),
            _number(row["prompt_tokens"]), _bytes(row["memory"] or 0), _duration(row["seconds"]),
            "unknown" if row["cost"] is None else f"{row['cost']:,.2f}", row["note"],
        ]
        for row in (*plan.as_json()["work"], total)
    ]  # fmt: skip
    aligned = []
    for name, cells in zip(COLUMNS, zip(*rows, strict=True), strict=True):
        width = max(map(len, (name, *cells)))
        if name != "cost" or priced:
            aligned.append([cell.ljust(width) if name in LEFT_ALIGNED else cell.rjust(width) for cell in (name, *cells)])
    header, *lines = zip(*aligned, strict=True)
    return Table(columns=header, rows=lines)


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}" if value else ""


def _bytes(value: int) -> str:
    unit, size = next((unit for unit in (("GiB", 1 << 30), ("MiB", 1 << 20)) if value >= unit[1]), ("KiB", 1 << 10))
    return f"{value / size:,.1f} {unit}" if value else ""


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds:,.1f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
