"""Tells how many inputs were tried."""

from __future__ import annotations

from typing import Any

from tests.fuzz.fuzzing import SECONDS, TRIED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if SECONDS:
        for name, count in TRIED.items():
            terminalreporter.write_line(f"{count:>9,} inputs  {name.replace('_', ' ')}")
