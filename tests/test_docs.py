"""The documents are true: commands, tree, API, links and install hints match the code, and the examples run."""

from __future__ import annotations

import inspect
import json
import re
import runpy
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

import flywheel
from flywheel.cli.commands import app
from tests.conftest import copy

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
CLI = runpy.run_path(str(ROOT / "docs" / "generate_cli.py"))


def fenced(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_command_reference_is_what_the_command_line_says() -> None:
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == CLI["page"](), "run `python docs/generate_cli.py`"


def test_every_command_and_parameter_has_help() -> None:
    for name, command in CLI["commands"](get_command(app)):
        assert command.help, name
        for parameter in command.params:
            assert parameter.help, f"{name} {parameter.name}"


def test_commands_in_the_documents_exist() -> None:
    program = get_command(app)
    groups = {name for name, command in program.commands.items() if hasattr(command, "commands")}
    known = {name.removeprefix("flywheel ") for name, _ in CLI["commands"](program)} | groups
    for document in DOCUMENTS:
        for line in re.findall(r"^\$ (?:\S+/)?flywheel (.*)", document.read_text(encoding="utf-8"), re.MULTILINE):
            words = re.sub(r"^((--workspace|-w) \S+ |--version|--help)*", "", line).split()
            if words and not words[0].startswith("-"):
                name = " ".join(words[:2]) if words[0] in groups else words[0]
                assert name in known, f"{document.name}: flywheel {line}"


def test_the_tree_is_the_tree_on_disk() -> None:
    (tree,) = [block for block in fenced("docs/architecture.md", "text") if block.startswith("flywheel/\n")]
    named = re.findall(r"^  (\S+)  +\S", tree, re.MULTILINE)
    package = ROOT / "flywheel"
    present = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")} | {path.name for path in package.glob("*.py")}
    assert sorted(named) == sorted(present)


def test_files_named_in_the_documents_exist() -> None:
    named = re.compile(r"`((?:flywheel|tests|docs|configs|prompts|data|examples|benchmarks)/[\w./-]*)`")
    for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md", "SECURITY.md", "docs/architecture.md"):
        for path in named.findall((ROOT / name).read_text(encoding="utf-8")):
            assert (ROOT / path).exists() or "NAME" in path, f"{name}: {path}"


def test_names_are_in_the_files_that_the_architecture_page_says() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    places = re.findall(r"`(?:\w+\.)?(\w+)`\s(?:in|of)\s`(flywheel/[\w/]+\.py)`", page)
    assert len(places) > 8
    for name, path in places:
        assert re.search(rf"\b(class|def) {name}\b", (ROOT / path).read_text(encoding="utf-8")), f"{name} in {path}"


def test_links_between_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"(?:\]\(|src=\")(?!https?:)([^)#\"]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_install_hints_name_the_distribution() -> None:
    distribution = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]
    hint = re.compile(r"(?:pip|uv|pipx) (?:install|add)\b[^\n#]*?['\" ](flywheel[\w-]*)(?=[\[='\"` ]|$)", re.MULTILINE)
    sources = (path for folder in ("flywheel", "configs", "docs", "examples", "benchmarks") for path in text_files(folder))
    named = {path: set(hint.findall(path.read_text(encoding="utf-8"))) for path in (*sources, *DOCUMENTS)}
    assert any(named.values())
    assert {path: names for path, names in named.items() if names - {distribution}} == {}


def text_files(folder: str) -> Iterator[Path]:
    suffixes = {".py", ".md", ".yaml", ".ipynb", ".js", ".jinja", ".sql", ".txt"}
    return (path for path in (ROOT / folder).rglob("*") if path.suffix in suffixes)


def parameters(signature: str) -> list[str]:
    """Names of the parameters in a signature as the API page shows it."""
    return [word.partition("=")[0] for word in re.split(r", (?![^(]*\))", signature) if word not in ("", "*")]


def test_the_api_page_has_every_public_name_with_its_parameters() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    headings = re.findall(r"^###+ (.*)", page, re.MULTILINE)
    named = {heading.strip("`").partition("(")[0] for heading in headings}
    assert set(flywheel.__all__) <= named
    methods = {name for name, _ in inspect.getmembers(flywheel.Flywheel, inspect.isfunction) if not name.startswith("_")}
    documented = dict(re.findall(r"`(?:\w+\.)?(\w+)\((.*?)\)`", "\n".join(headings)))
    assert methods <= set(documented)
    functions = {name: getattr(flywheel.Flywheel, name) for name in methods}
    functions |= {name: getattr(flywheel, name) for name in ("open", "best_of_n", "compare_scores")}
    functions |= {name: getattr(flywheel.RewardModel, name) for name in ("load", "score")}
    for name, function in functions.items():
        expected = [parameter for parameter in inspect.signature(function).parameters if parameter != "self"]
        assert parameters(documented[name]) == expected, name


@pytest.fixture
def beside_the_data(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like a checkout in which a small workspace lies where the examples open it."""
    (tmp_path / "examples").mkdir()
    (tmp_path / "data").symlink_to(ROOT / "data")
    copy(built, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_python_of_the_readme_runs(beside_the_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = fenced("README.md", "python")
    exec(example, {})
    printed = capsys.readouterr().out
    assert set(flywheel.Verdict) & set(printed.split())


def test_the_notebook_runs(beside_the_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = json.loads((ROOT / "examples" / "first_round.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells)
    monkeypatch.chdir(copy(beside_the_data / "workspace", beside_the_data / "examples").parent)
    scope: dict[str, object] = {}
    for cell in cells:
        exec("".join(cell["source"]), scope)
    assert scope["comparison"].verdict in set(flywheel.Verdict)  # type: ignore[attr-defined]
    assert len(scope["found"].candidates) == 4  # type: ignore[attr-defined]
