"""A dry run as text: the engine and why, a line for each piece of work, the sums, and the warnings."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.filesize import pick_unit_and_suffix

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
    print_line(f"dry run of {plan.round}: nothing is written")
    print_line(f"engine: {plan.engine.name} ({plan.engine.why})")
    for name, shape in plan.models.items():
        print_line(f"{name}: {shape.kind}, {shape.layers} layers, {shape.parameters:,} parameters")
    if plan.done:
        print_line(f"already done: {', '.join(plan.done)}")
    print_line()
    rows = [_row(asdict(work)) for work in plan.work]
    rows.append(_row({"name": "total", "unit": "", "count": 0, "note": "", **plan.total}))
    if not any(work.cost != 0 for work in plan.work):
        rows = [{name: cell for name, cell in row.items() if name != "cost"} for row in rows]
    print_table(Table(columns=tuple(rows[0]), rows=[tuple(row.values()) for row in rows]), right=NUMBERS)
    print_line()
    measured = sorted({work.basis for work in plan.work if work.basis})
    print_line("counts are exact if every task is kept and has a winner; token caps are upper bounds")
    print_line("memory is weights, gradients, Adam states and logits; activations and key-value caches come on top")
    print_line(f"time is what {', '.join(measured)} took with these settings" if measured else "time is known after a round")
    for label, texts in (("note", plan.notes), ("warning", plan.warnings)):
        for text in texts:
            print_line(f"{label}: {text}")


def _row(work: dict[str, Any]) -> dict[str, str]:
    return {
        "work": work["name"],
        "count": _number(work["count"]),
        "unit": work["unit"],
        "tokens": _number(work["tokens"]),
        "token cap": _number(work["most_tokens"]),
        "prompt tokens": _number(work["prompt_tokens"]),
        "memory": _bytes(work["memory"] or 0),
        "time": _duration(work["seconds"]),
        "cost": "unknown" if work["cost"] is None else f"{work['cost']:,.2f}",
        "note": work["note"],
    }


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}" if value else ""


def _bytes(value: int) -> str:
    unit, suffix = pick_unit_and_suffix(value, ["bytes", "KiB", "MiB", "GiB"], 1024)
    return f"{value / unit:,.1f} {suffix}" if value else ""


def _duration(seconds: float | None) -> str:
    if seconds is None or seconds < 120:
        return "unknown" if seconds is None else f"{seconds:,.1f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
