"""The layout tells the truth: imports point one way, and nothing heavy is loaded before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import flywheel

PACKAGE = Path(flywheel.__file__).parent
HEAVY = {"torch", "transformers", "trl", "vllm", "mergekit", "datasets", "ctranslate2", "ray"}
BELOW = (
    "records", "config", "errors", "assets", "faults", "files", "interrupts", "functions", "plain", "seeds", "progress",
    "spool",
)  # fmt: skip
"""What every layer may use."""
LAYERS = {
    "store": (),
    "instructions": ("engines.engine",),
    "engines": (),
    "evaluation": ("store", "engines.engine", "instructions", "reward.text", "workers.work"),
    "reward": (
        "store",
        "instructions",
        "adapters",
        "checkpoints",
        "models",
        "processes",
        "quiet",
        "workspace",
        "evaluation.judge",
        "evaluation.statistics",
    ),
    "nano": ("engines", "instructions"),
    "estimate": ("store", "instructions", "engines", "generator", "models", "next_round", "quiet", "reward", "workspace"),
    "export": ("store", "generator", "instructions", "workspace"),
    "integrity": ("store", "generator", "reward.recipe", "workspace"),
    "report": ("store", "evaluation", "estimate", "integrity", "reward", "sampling", "workspace"),
    "selection": (),
    "training": ("adapters", "instructions", "checkpoints", "processes", "quiet"),
    "adapters": (),
    "checkpoints": (),
    "processes": ("checkpoints",),
    "budget": ("engines.engine",),
    "functions": (),
    "judges": ("budget", "engines", "evaluation.judge", "evaluation.judges", "instructions", "models", "reward"),
    "generator": ("engines", "instructions", "models", "workspace"),
    "workers": ("engines", "generator", "quiet", "reward", "workspace"),
    "workspace": ("store",),
    "models": (),
    "config": (),
    "records": (),
}
"""What each layer may use besides ``BELOW`` and itself."""


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return found | {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}


def modules(layer: str) -> list[Path]:
    folder = PACKAGE / layer
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{layer}.py"]


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_point_one_way(layer: str) -> None:
    allowed = {f"flywheel.{name}" for name in (*BELOW, *LAYERS[layer], layer)}
    for path in modules(layer):
        for name in imports(path):
            if name.startswith("flywheel."):
                assert any(name == one or name.startswith(one + ".") for one in allowed), f"{path.name} imports {name}"


def test_heavy_libraries_are_imported_only_by_those_who_work_with_them() -> None:
    working = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] in HEAVY for name in imports(path, top_level_only=True))
    }
    stations = {name for name in working if name.startswith(("engines/", "reward/", "training/", "workers/"))}
    assert working - stations == {"checkpoints.py", "nano/build.py"}


def imported(arguments: list[str], libraries: set[str]) -> str:
    """Which of these libraries a command imports in a process of its own, as a printed list."""
    script = (
        "import sys\nfrom flywheel.cli import main\n"
        f"sys.argv = ['flywheel', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print(sorted({libraries!r} & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return ran.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("arguments", [["--help"], ["round", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert imported(arguments, HEAVY | {"duckdb", "numpy", "scipy"}) == "[]"


@pytest.mark.parametrize("arguments", [["rounds"], ["sql", "SELECT 1"], ["compare", "r0", "r1"], ["schema"], ["report"]])
def test_reading_the_store_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    assert imported(["-w", str(tmp_path), *arguments], HEAVY) == "[]"
