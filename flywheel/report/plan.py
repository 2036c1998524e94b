"""A dry run as text: the engine and why, a line for each piece of work, the sums, and the warnings."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from flywheel.report.tables import print_json, print_line, print_table
from flywheel.store.reading import Table

if TYPE_CHECKING:
    from flywheel.estimate.plan import Plan

NUMBERS = ("count", "tokens", "token cap", "prompt tokens", "memory", "time", "cost")


def print_plan(plan: Plan, *, as_json: bool) -> None:
    """A plan as text, or as JSON."""
    if as_json:
        print_json(asdict(plan) | {"total": plan.total})
        return
    print_line(f"dry run of {plan.round}: nothing is written to the workspace")
    print_line(f"engine: {plan.engine.name} ({plan.engine.why.rstrip('.')})")
    for name, shape in plan.models.items():
        print_line(f"{name}: {shape.kind}, {shape.layers} layers, {shape.parameters:,} parameters")
    if plan.done:
        print_line(f"already done: {', '.join(plan.done)}")
    print_line()
    rows = [_row(asdict(work)) for work in plan.work]
    rows.append(_row({"name": "total", "unit": "", "count": 0, **plan.total}))
    print_table(Table(columns=tuple(rows[0]), rows=[tuple(row.values()) for row in rows]), right=NUMBERS)
    print_line()
    measured = sorted({work.basis for work in plan.work if work.basis})
    print_line("Counts are exact if every task is kept and has a winner. Token caps are upper bounds.")
    print_line("Memory is weights, gradients, Adam states and logits, without activations and key-value caches.")
    times = f"are from {', '.join(measured)}" if measured else "are known after a round with the same settings"
    print_line(f"Times {times}.")
    for warning in plan.warnings:
        print_line(f"warning: {warning}")


def _row(work: dict[str, Any]) -> dict[str, str]:
    seconds, cost = work["seconds"], work["cost"]
    return {
        "work": work["name"],
        "count": _number(work["count"]),
        "unit": work["unit"],
        "tokens": _number(work["tokens"]),
        "token cap": _number(work["most_tokens"]),
        "prompt tokens": _number(work["prompt_tokens"]),
        "memory": decimal(work["memory"]) if work["memory"] else "",
        "time": "unknown" if seconds is None else str(timedelta(seconds=round(seconds))),
        "cost": "unknown" if cost is None else f"{cost:,.2f}",
    }


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}" if value else ""
