"""Whatever a model wrote, a terminal, a page and a card show it and do nothing else."""

from __future__ import annotations

import io
import json
import re
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import example
from hypothesis import strategies as st
from jinja2 import Environment
from rich.console import Console

from flywheel.core.safe_text import visible, visible_json
from flywheel.export.card import table
from flywheel.export.files import as_line
from flywheel.report import tables
from flywheel.report.page.tasks import escaped
from flywheel.report.page.write import _code
from flywheel.store.reading import Table
from tests.fuzz.fuzzing import ODD, VALUES, WHOLE, fuzzed

HARMLESS = ("Zs",)


def acts(text: str, keep: str = "") -> list[str]:
    """The letters of a text that a terminal would act on, or that hide."""
    return [one for one in text if not one.isprintable() and unicodedata.category(one) not in HARMLESS and one not in keep]


@fuzzed(example(text="\x1b[2J"), example(text="\x9b2J\u202e"), text=ODD)
def test_a_visible_text_acts_on_nothing_and_keeps_what_shows(text: str) -> None:
    shown = visible(text)
    assert not acts(shown)
    assert shown == text or acts(text)
    assert visible(shown) == shown


@fuzzed(value=VALUES)
def test_json_acts_on_nothing_and_means_the_same(value: object) -> None:
    shown = tables.as_json(value)
    assert not acts(shown, keep="\n")
    assert json.loads(shown) == json.loads(json.dumps(tables._plain(value)))
    assert visible_json(shown) == shown


@fuzzed(
    example(columns=["[red]x"], rows=["[/]"]),
    columns=st.lists(WHOLE, min_size=1, max_size=3),
    rows=st.lists(VALUES, max_size=4),
)
def test_a_table_acts_on_nothing(columns: list[str], rows: list[object]) -> None:
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        patch.setattr(
            tables,
            "Console",
            lambda **options: Console(file=out, force_terminal=True, no_color=True, color_system=None, width=100),
        )
        tables.print_table(Table(columns=tuple(columns), rows=[(row,) * len(columns) for row in rows]))
    assert not acts(re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()), keep="\n")  # rich's own bold


class Seen(HTMLParser):
    """The elements of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


@fuzzed(example(text="</script><img src=x onerror=alert(1)>"), text=WHOLE)
def test_nothing_leads_out_of_an_element(text: str) -> None:
    data = escaped({"x": text})
    assert json.loads(data) == {"x": text}
    assert not re.search(r"[<>&\u2028\u2029]", data)
    assert set(Seen(str(_code(text))).tags) <= {"code"}
    shown = Environment(autoescape=True).from_string('<p title="{{ x }}">{{ x }}</p>').render(x=text)
    assert Seen(shown).tags == ["p"]


@fuzzed(text=WHOLE)
def test_a_line_of_an_export_is_one_line_and_comes_back(text: str) -> None:
    line = as_line({"x": text})
    assert len(line.splitlines()) == 1
    assert json.loads(line) == {"x": text}


@fuzzed(text=WHOLE)
def test_a_cell_of_a_card_stays_in_its_cell(text: str) -> None:
    lines = table([{"a": text, "b": 1}]).split("\n")
    assert len(lines) == 3
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", lines[2])) == 3
    assert not re.search(r"(?<!\\)(?:\\\\)*<", lines[2])
