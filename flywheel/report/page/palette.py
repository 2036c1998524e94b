"""Colours by name, each in a light and a dark form: charts and page share them.

A chart is drawn once, with a stand-in for each colour. On the page a stand-in becomes a custom property of CSS, so that the
chart follows the reader's theme; in a file of its own it becomes the light form.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_PAIRS = {
    "ink": ("#1c2430", "#e7ebf0"),
    "muted": ("#5a6472", "#a3adba"),
    "grid": ("#e4e7ec", "#2c333d"),
    "axis": ("#9aa3af", "#5c6673"),
    "paper": ("#ffffff", "#171b21"),
    "judge": ("#1b6bb0", "#6cb4f2"),
    "reward": ("#b8530a", "#f2a05c"),
    "improved": ("#17733d", "#57cc8a"),
    "worse": ("#b42a23", "#ff8a80"),
    "flat": ("#566070", "#a7b1bf"),
    "proxy-only": ("#9a5b00", "#f3b94f"),
    "collapsing": ("#8f1d58", "#f78fc4"),
    "inconclusive": ("#566070", "#a7b1bf"),
    "best": ("#1b6bb0", "#6cb4f2"),
    "random": ("#7a828e", "#9aa3b0"),
    "max-logprob": ("#6a3fa0", "#bd9bf0"),
    "longest": ("#b8530a", "#f2a05c"),
    "first": ("#0f766e", "#4fc7bb"),
    "kept": ("#1b6bb0", "#6cb4f2"),
}
_SERIES = (
    ("#4c78a8", "#7fb0e0"), ("#d9822b", "#f2a860"), ("#3f8f5b", "#74c794"), ("#c44e52", "#f08a8d"),
    ("#7e63b8", "#b39ee6"), ("#8c6d4f", "#c4a587"), ("#c2659f", "#eb9bcb"), ("#6f7785", "#a9b1be"),
    ("#a08a12", "#d9c552"), ("#218f9b", "#66c9d4"), ("#5b6abf", "#98a5f0"), ("#947f93", "#c9b5c8"),
)  # fmt: skip
"""For things of which there is no telling how many: stages, reasons."""
_RAMP = (("#7fb3d9", "#44698c"), ("#0b3d6e", "#d3ebff"))
"""First and last of the rounds: the last stands out most, on light and on dark."""
STEPS = 12
"""Colours of the ramp."""


def _between(first: str, last: str, share: float) -> str:
    ends = [[int(one[place : place + 2], 16) for place in (1, 3, 5)] for one in (first, last)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(*ends, strict=True))


COLOURS: dict[str, tuple[str, str]] = (
    _PAIRS
    | {f"series-{place}": pair for place, pair in enumerate(_SERIES)}
    | {
        f"ramp-{step}": (
            _between(_RAMP[0][0], _RAMP[1][0], step / (STEPS - 1)),
            _between(_RAMP[0][1], _RAMP[1][1], step / (STEPS - 1)),
        )
        for step in range(STEPS)
    }
)
"""Light and dark by name."""
_NAMES = list(COLOURS)
_STAND_IN = re.compile(r"#fe00([0-9a-f]{2})\b", re.IGNORECASE)


def colour(name: str) -> str:
    """The stand-in of a colour, to draw with."""
    return f"#fe00{_NAMES.index(name):02x}"


def series(place: int) -> str:
    """The stand-in for the thing at this place; there are twelve, then they come again."""
    return colour(f"series-{place % len(_SERIES)}")


def ramp(place: int, count: int) -> str:
    """The stand-in for one of ``count`` things in order; the last of them stands out most."""
    return colour(f"ramp-{round((STEPS - 1) * (place / (count - 1) if count > 1 else 1))}")


def for_page(drawn: str) -> str:
    """A drawing whose colours are custom properties."""
    return _replaced(drawn, lambda name: f"var(--{name})")


def for_file(drawn: str) -> str:
    """A drawing in the light colours."""
    return _replaced(drawn, lambda name: COLOURS[name][0])


def _replaced(drawn: str, by: Callable[[str], str]) -> str:
    return _STAND_IN.sub(lambda match: by(_NAMES[int(match.group(1), 16)]), drawn)


def custom_properties() -> str:
    """The colours as CSS."""
    return "\n".join(f"  --{name}: light-dark({light}, {dark});" for name, (light, dark) in COLOURS.items())
