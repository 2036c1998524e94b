"""Progress: lines where there is no terminal, a bar in a notebook."""

from __future__ import annotations

import re

import pytest

from flywheel.core.progress import Progress
from flywheel.report import progress
from flywheel.report.progress import Notebook, Terminal, default_progress


def work(shown: Progress, *, total: int | None = None) -> None:
    with shown.work("propose", total=total, unit="tasks", done=10) as counter:
        counter.to(20)
        counter.to(30, 50)


def test_lines_without_a_terminal_show_the_total_and_the_unit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "REPORT_EVERY_S", -1.0)
    work(Terminal())
    unknown_total, known_total, summary = capsys.readouterr().err.splitlines()
    assert re.match(r"propose +20/\? tasks, [\d,.]+/s$", unknown_total)
    assert re.match(r"propose +30/50 tasks, [\d,.]+/s$", known_total)
    assert re.match(r"propose +30 tasks in \d+\.\d s, [\d,.]+/s$", summary)


def test_work_that_is_soon_done_leaves_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    work(Terminal(), total=30)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    work(Terminal(), total=30)
    shown = capsys.readouterr().err
    assert "10/30 tasks" in shown
    assert "30/50 tasks" in shown
    assert "30 tasks in" in shown


def test_a_notebook_shows_its_own_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(default_progress(), Terminal)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    shown = default_progress()
    assert isinstance(shown, Notebook)
    work(shown)
    err = capsys.readouterr().err
    assert "propose" in err
    assert "30/50" in err
