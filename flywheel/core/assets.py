"""The prompts, data and presets that come with flywheel, in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from flywheel.errors import ConfigError

ASSET = "asset:"
_PACKAGE = Path(__file__).resolve().parents[1]


def asset(name: str) -> Path:
    """The path of an asset such as ``data/nano/seeds.jsonl``; raises ConfigError if there is none.

    The wheel has the three folders inside the package; in a checkout they are next to it.
    """
    for root in (_PACKAGE / "_assets", _PACKAGE.parent):
        path = (root / name).resolve()
        if path.exists() and path.is_relative_to(root.resolve()):
            return path
    raise ConfigError(f"asset {name!r} not found", "Give a path in flywheel's own prompts/, data/ or configs/ after `asset:`.")


def presets() -> dict[str, Path]:
    """Preset names and their YAML files."""
    return {path.stem: path for path in sorted(asset("configs").glob("*.yaml"))}
