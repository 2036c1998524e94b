"""Generates docs/cli.md from the command line: `python docs/generate_cli.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from typer import Context
from typer.cli import get_docs_for_click
from typer.core import TyperGroup
from typer.main import get_command

from flywheel.cli.commands import app

PAGE = Path(__file__).parent / "cli.md"
HEAD = """# Command line

All commands with their options. This page is generated from the program by `python docs/generate_cli.py`.

Results go to stdout, progress and messages to stderr. A command exits with 0 where it succeeded, 1 where it failed or its budget
is spent, 2 where it was called wrongly, 130 after Ctrl-C and 143 after SIGTERM. An error is two lines: `error:` says what is wrong,
`hint:` what to do. `--set` and `--n` hold for one call; edit the workspace's `config.yaml` to change a value for good.
"""


def commands(group: TyperGroup, name: str = "flywheel") -> Iterator[tuple[str, object]]:
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
    sections = [get_docs_for_click(obj=command, ctx=context, indent=1, name=name) for name, command in every]
    options = [f"* `{option}`: {text}" for option, text in _own_options(program, context)]
    text = "\n".join(
        [HEAD, "| command | |", "|---|---|", *table, "", "Options before the command:", "", *options, "", "".join(sections)]
    )
    return "\n".join(line for line in text.splitlines() if not line.startswith("* `--help`")).rstrip() + "\n"


def _first_line(command: object) -> str:
    return command.help.strip().split("\n\n")[0].replace("\n", " ")


def _own_options(program: object, context: Context) -> list[tuple[str, str]]:
    records = [parameter.get_help_record(context) for parameter in program.params]
    return [record for record in records if record and "completion" not in record[0]]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
