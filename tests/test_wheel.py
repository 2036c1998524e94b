"""An installed flywheel works from any folder: prompts, data and presets travel in the wheel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the built wheel is installed into."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder / "site", wheel]
    subprocess.run(pip, check=True, capture_output=True)
    return folder / "site"


def test_the_wheel_carries_the_assets_and_migrations(installed: Path) -> None:
    package = installed / "flywheel"
    for name in (
        "prompts/propose.jinja",
        "configs/nano.yaml",
        "data/nano/seeds.jsonl",
        "data/nano/generator/model.safetensors",
    ):
        assert (package / "_assets" / name).is_file(), name
    assert (package / "store" / "migrations" / "0001_tables.sql").is_file()
    assert (package / "store" / "views.sql").is_file()
    assert (package / "export" / "card.md.jinja").is_file()
    assert (package / "py.typed").is_file()


def test_an_installed_flywheel_makes_a_workspace_anywhere(installed: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    script = (
        "import flywheel, sys; print(flywheel.__file__); from flywheel.cli import main; sys.argv = ['flywheel', 'init']; main()"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[0].startswith(str(installed))
    assert (tmp_path / "workspace" / "flywheel.duckdb").is_file()
