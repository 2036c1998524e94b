"""Generates docs/cli.md from the command line: `python docs/generate_cli.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from typer import Context
from typer.cli import get_docs_for_click
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from flywheel.cli.commands import app

PAGE = Path(__file__).parent / "cli.md"
HEAD = """# Command line

All commands with their options, generated from the program by `python docs/generate_cli.py`.

- Results go to stdout, progress and messages to stderr. `--json` prints results as JSON.
- An error is two lines: `error:` says what is wrong, `hint:` what to do.
- Exit codes: 0 success, 1 an error or a spent budget, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM.
- `--set` and `--n` apply to one call; edit the workspace's `config.yaml` to change a value permanently.
"""


def commands(group: TyperGroup, name: str = "flywheel") -> Iterator[tuple[str, TyperCommand]]:
    """All commands by their full names, those of groups included."""
    for word, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


def page() -> str:
    """The text of docs/cli.md."""
    program = get_command(app)
    context = Context(program)
    every = list(commands(program))
    table = [f"| [`{name}`](#{name.replace(' ', '-')}) | {_first_line(command)} |" for name, command in every]
    records = [record for parameter in program.params if (record := parameter.get_help_record(context))]
    options = [f"* `{option}`: {text}" for option, text in records if "completion" not in option]
    sections = [get_docs_for_click(obj=command, ctx=context, indent=1, name=name) for name, command in every]
    parts = [HEAD, "| command | what it does |", "|---|---|", *table, "", "Options before the command:", "", *options, ""]
    lines = "\n".join([*parts, "".join(sections)]).splitlines()
    return "\n".join(line for line in lines if not line.startswith("* `--help`")).rstrip() + "\n"


def _first_line(command: TyperCommand) -> str:
    return (command.help or "").strip().split("\n\n")[0].replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
