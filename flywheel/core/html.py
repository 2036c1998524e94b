"""Tables as HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def html_table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with a caption; every value is escaped, and a missing one is left blank."""

    def cells(tag: str, values: Sequence[object]) -> str:
        return "".join(f"<{tag}>{'' if value is None else escape(_text(value))}</{tag}>" for value in values)

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><tr>{cells('th', columns)}</tr>{body}</table>"


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
