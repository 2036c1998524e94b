"""Judges for tests."""

from __future__ import annotations

from flywheel.records import Task


def clueless(rows: list[tuple[Task, str]]) -> list[float | None]:
    """Cannot tell anything."""
    return [None for _ in rows]
