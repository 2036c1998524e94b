"""Tables as HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def html_table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with a caption; every value is escaped, and a missing one is left blank."""

    def line(tag: str, values: Sequence[object]) -> str:
        texts = ("" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value) for value in values)
        return "".join(["<tr>", *(f"<{tag}>{escape(text)}</{tag}>" for text in texts), "</tr>"])

    body = "".join(line("td", row) for row in rows)
    return f"<table><caption>{escape(caption)}</caption>{line('th', columns)}{body}</table>"
