"""Properties tried on many inputs: some in every run of the tests, and for so many seconds each under `make fuzz`.

What failed is kept in `tests/fuzz/corpus` and tried first from then on; every finding has an explicit example as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
"""How long each property is tried; 0 for a fixed few inputs, the same in every run."""
FEW, MANY = 60, 500
TRIED: dict[str, int] = {}
"""Inputs by property."""


def fuzzed(*examples: Callable[[Any], Any], few: int = FEW, **inputs: st.SearchStrategy[Any]) -> Callable[[Any], Any]:
    """Try a property on these inputs, the explicit examples first."""

    def wrap(check: Callable[..., None]) -> Callable[[], None]:
        name = check.__name__.removeprefix("test_")

        def counted(**values: Any) -> None:
            TRIED[name] = TRIED.get(name, 0) + 1
            check(**values)

        counted.__name__ = counted.__qualname__ = check.__name__
        counted.__module__ = check.__module__
        tried = given(**inputs)(counted)
        for example in reversed(examples):
            tried = example(tried)
        config = settings(
            max_examples=MANY if SECONDS else few,
            derandomize=not SECONDS,
            database=DirectoryBasedExampleDatabase(Path(__file__).parent / "corpus") if SECONDS else None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
        )

        tried = config(tried)

        def test() -> None:
            end = time.monotonic() + SECONDS
            while True:
                tried()
                if time.monotonic() >= end:
                    break

        test.__name__, test.__doc__, test.__module__ = check.__name__, check.__doc__, check.__module__
        return test

    return wrap


LETTERS = st.characters(codec=None)
TEXTS = st.text(LETTERS, max_size=200)
"""Any text, half characters and null bytes too."""
NASTY = st.sampled_from(
    [
        "\x1b[31m",
        "\x1b]52;c;ZXZpbA==\x07",
        "\x1b]8;;http://evil\x1b\\x\x1b]8;;\x1b\\",
        "\r",
        "\x9b2J",
        "\u202e",
        "\u2066",
        "[red]",
        "[/]",
        "</script>",
        "<!--",
        "]]>",
        "\0",
        "\ud800",
        "\ufeff",
        "\u2028",
        "=1+1",
        "|",
        "`",
        "${x}",
        "{{ x }}",
        "{% x %}",
    ]
)
ODD = st.lists(st.one_of(TEXTS, NASTY), max_size=5).map("".join)
"""Texts with what terminals, pages and templates act on."""
WHOLE = ODD.map(lambda text: text.encode("utf-8", "replace").decode())
"""The same without half characters, as the store has them."""
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ODD,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD, inner, max_size=4),
    max_leaves=12,
)
"""What JSON and YAML can say."""
