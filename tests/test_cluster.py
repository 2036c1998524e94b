"""The cluster section where there is no Ray."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import Cli, copy, refused


def test_a_cluster_without_ray_names_the_command_that_installs_it(
    built: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "flywheel.workers.joining", raising=False)
    outcome = cli("--workspace", copy(built, tmp_path), "round", "--set", "cluster.workers=2")
    refused(outcome)
    assert "pip install 'flywheel-bon[ray]'" in f"{outcome.error} {outcome.hint}"


def test_an_address_of_rays_client_says_what_to_do_instead(built: Path, tmp_path: Path, cli: Cli) -> None:
    refused(
        cli("--workspace", copy(built, tmp_path), "round", "--set", "cluster.address=ray://10.0.0.1:10001"), "ray://10.0.0.1"
    )
