"""The documents hold: every command is in the README, and the folders named in it exist."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from flywheel.cli.commands import app

ROOT = Path(__file__).parents[1]


def commands() -> list[str]:
    group = typer.main.get_command(app)
    names = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        names += [f"{name} {sub}" for sub in inner] if inner else [name]
    return names


def test_every_command_is_in_the_readme_and_has_help() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in commands():
        assert f"flywheel {name}" in readme, name


def test_the_tree_in_the_readme_is_the_tree_on_disk() -> None:
    readme = (ROOT / "README.md").read_text()
    tree = re.search(r"```text\n(flywheel/\n.*?)```", readme, re.DOTALL)
    assert tree
    named = {line.split()[0].rstrip("/") for line in tree.group(1).splitlines()[1:] if line.startswith("  ")}
    there = {
        path.stem if path.is_dir() else path.name
        for path in (ROOT / "flywheel").iterdir()
        if not path.name.startswith(("_", ".")) and path.name != "py.typed"
    }
    assert named == there


def test_links_between_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
