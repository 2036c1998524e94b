"""What `compare`, `trend` and `show` print for a person."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from flywheel.core.assets import asset
from flywheel.report.tables import counts
from tests import report_store
from tests.conftest import Cli


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("summaries") / "wheel"
    report_store.build(folder)
    shutil.copy(asset("configs/nano.yaml"), folder / "config.yaml")
    return folder


def rows(text: str, heading: str) -> dict[str, list[str]]:
    """The rows of the table whose first line starts with a heading, by their first word."""
    table = text[text.index(f"\n{heading} ") + 1 :].split("\n\n")[0]
    return {line.split()[0]: line.split()[1:] for line in table.splitlines()[1:]}


def test_compare_prints_the_verdict_the_evidence_the_policies_and_the_curve(cli: Cli, folder: Path) -> None:
    text = cli("-w", folder, "compare", "r1", "r2").out
    evidence = json.loads(cli("-w", folder, "compare", "r1", "r2", "--json").out)
    assert text.splitlines()[0] == evidence["sentence"]
    assert "win / tie / loss on the judge: 100.0 % / 0.0 % / 0.0 %" in text
    assert f"p = {evidence['p_value']:.2g}" in text
    judge = evidence["judge"]
    assert rows(text, "held-out")["judge"] == [
        *(f"{judge[name]:.3f}" for name in ("before", "after")),
        f"{judge['value']:+.3f}", f"{judge['low']:+.3f}", "to", f"{judge['high']:+.3f}",
    ]  # fmt: skip
    assert {"reward", "output", "finish", "tokens"} <= rows(text, "held-out").keys()
    policies = rows(text, "policy")
    assert list(policies) == ["best", "first"]
    assert len(policies["best"]) == 3, "best-of-N has no difference to itself"
    assert float(policies["first"][1]) < 0
    assert list(rows(text, "N")) == ["1", "2", "3"]


def test_trend_prints_every_comparison_with_its_corrected_p(cli: Cli, folder: Path) -> None:
    text = cli("-w", folder, "trend").out
    assert list(rows(text, "against its parent")) == ["r1", "r2"]
    assert list(rows(text, "against r0")) == ["r1", "r2"]
    assert next(iter(rows(text, "against its control"))) == "r1"
    assert "Holm" in text


def test_a_summary_has_the_counts_and_how_to_resume(cli: Cli, folder: Path) -> None:
    assert "60 kept (1 missing field)" in cli("-w", folder, "show", "r1").out
    assert "`flywheel round`" in cli("-w", folder, "show", "r3").out


def test_counts_by_reason() -> None:
    assert counts({"too long": 1234, "empty": 1}) == "1,234 too long, 1 empty"
    assert counts({}) == ""
