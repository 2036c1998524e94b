"""The files and folders that a configuration names: they are their owner's, wherever they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flywheel.config import Config
from flywheel.core.assets import ASSET


def named_paths(config: Config) -> Iterator[Path]:
    """What is on disk of that which a configuration names, apart from what comes with flywheel."""
    for value in _texts(config.model_dump(mode="json", exclude={"base"})):
        if value and not value.startswith(ASSET) and (path := _path(config, value)) is not None:
            yield path.resolve()


def _path(config: Config, value: str) -> Path | None:
    try:
        path = config.path(value)
        return path if path.exists() and path.resolve() != config.base.resolve() else None
    except (OSError, ValueError):  # a text that is too long for a name, or has a zero in it
        return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(one)
