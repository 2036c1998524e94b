"""Judges for tests."""

from __future__ import annotations

from flywheel.records import Task


def likes_length(rows: list[tuple[Task, str]]) -> list[float | None]:
    """Thinks that more is better."""
    return [float(len(output)) for _, output in rows]
