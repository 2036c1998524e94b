"""The layout tells the truth: imports point down, files stay short, and nothing heavy is loaded before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import flywheel

PACKAGE = Path(flywheel.__file__).parent
HEAVY = {"torch", "transformers", "trl", "vllm", "mergekit", "datasets", "ctranslate2", "ray"}
LAYERS = (
    ("cli", "flywheel"),
    ("api",),
    ("report",),
    ("estimate", "export", "integrity"),
    ("round",),
    ("evaluation",),
    ("workers",),
    ("reward",),
    ("training",),
    ("instructions",),
    ("engines",),
    ("workspace",),
    ("store", "config", "nano"),
    ("core",),
    ("errors", "records"),
)
"""Packages and top-level modules, from the top down: each imports only what is below it. ``flywheel`` is `__init__.py`."""
LONGEST_FILE = 300


@cache
def modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    paths = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in paths.items()}


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of flywheel that a module imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(modules()[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} & modules().keys() or {node.module}
    return frozenset(name for name in found if name in modules())


def package_of(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def test_every_package_is_in_a_layer() -> None:
    assert {package_of(module) for module in modules()} == {name for layer in LAYERS for name in layer}


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_point_down(module: str) -> None:
    level = {name: depth for depth, layer in enumerate(LAYERS) for name in layer}
    package = package_of(module)
    upward = {name for name in imports(module) if package_of(name) != package and level[package_of(name)] <= level[package]}
    assert not upward


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter({module: imports(module) for module in modules()}).prepare()


def test_few_modules_lie_at_the_top() -> None:
    assert len([path for path in PACKAGE.glob("*.py")]) <= 6


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_long_file_says_why(module: str) -> None:
    text = modules()[module].read_text()
    assert len(text.splitlines()) <= LONGEST_FILE or "long because" in (ast.get_docstring(ast.parse(text)) or "")


def test_heavy_libraries_are_imported_only_where_they_are_used() -> None:
    working = set()
    for module, path in modules().items():
        top = ast.parse(path.read_text()).body
        names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in top if isinstance(node, ast.ImportFrom)}
        if HEAVY & {name.split(".")[0] for name in names}:
            working.add(package_of(module))
    assert working <= {"engines", "reward", "training", "workers"}


def loaded(script: str, libraries: set[str]) -> str:
    """Which of these libraries a script imports in a process of its own, as a printed list."""
    script += f"\nimport sys\nprint(sorted({libraries!r} & set(sys.modules)), file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return ran.stderr.strip().splitlines()[-1]


def command(*arguments: str) -> str:
    return (
        "import sys\nfrom flywheel.cli import main\n"
        f"sys.argv = ['flywheel', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
    )


def test_importing_flywheel_imports_nothing_else() -> None:
    assert loaded("import flywheel", HEAVY | {"duckdb", "numpy", "scipy", "pydantic", "typer"}) == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["round", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert loaded(command(*arguments), HEAVY | {"duckdb", "numpy", "scipy"}) == "[]"


@pytest.mark.parametrize("arguments", [["rounds"], ["sql", "SELECT 1"], ["compare", "r0", "r1"], ["schema"], ["report"]])
def test_reading_the_store_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    assert loaded(command("-w", str(tmp_path), *arguments), HEAVY) == "[]"
