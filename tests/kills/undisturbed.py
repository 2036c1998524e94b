"""A small wheel that nobody disturbs: what it leaves behind, and how its workspace was when each place was entered."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from flywheel.config import find
from flywheel.core.assets import asset
from tests.kills.state import State, state
from tests.kills.victim import in_child, run


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A stretch of a command that can be killed."""

    command: str
    name: str
    seconds: float

    @property
    def label(self) -> str:
        """Its line in the table: its stage, whichever round or member it was."""
        first, _, second = self.name.partition(" ")
        if "-" in first:
            return "control policy"
        if first in ("member", "convert") or not second:
            return first
        return second


@dataclass(frozen=True, slots=True, kw_only=True)
class Undisturbed:
    """The run that all others are compared with."""

    folder: Path
    places: tuple[Place, ...]
    after: dict[str, State]
    """By command."""

    def before(self, place: Place) -> Path:
        """The workspace as it was when the place was entered."""
        return snapshot(self.folder, place.command, place.name)


def snapshot(folder: Path, command: str, place: str) -> Path:
    return folder / "snapshots" / command / place.replace(" ", "_")


COMMANDS: dict[str, Callable[[Path, Path], list[str]]] = {
    "init": lambda folder, config: ["init", "--config", str(config)],
    "build": lambda folder, config: ["reward", "build"],
    "round": lambda folder, config: ["round", "--control", "random"],
    "export": lambda folder, config: ["export", "r1", "--to", str(folder / "export"), "--overwrite"],
}
"""Each on the workspace that the one before left."""


def arguments(command: str, folder: Path, base: Path) -> list[str]:
    """What is typed after `flywheel`."""
    return ["--workspace", str(folder), *COMMANDS[command](folder, base / "tiny.yaml")]


def turn_undisturbed(base: Path) -> Undisturbed:
    """Run every command once; ``base`` is an empty folder."""
    write_config(base)
    folder = base / "workspace"
    folder.mkdir()
    places: list[Place] = []
    after: dict[str, State] = {}
    for command in COMMANDS:
        ended = run(arguments(command, folder, base), base / "output", entered=partial(keep, base, command, folder))
        assert ended.status == 0, (base / "output").read_text()
        places += [Place(command=command, name=name, seconds=seconds) for name, seconds in ended.seconds.items()]
        after[command] = in_child(state, folder)
    return Undisturbed(folder=base, places=tuple(places), after=after)


def keep(base: Path, command: str, folder: Path, place: str) -> None:
    """Copy the workspace: between two openings of the database, which is what a place begins with."""
    shutil.copytree(folder, snapshot(base, command, place))


def write_config(base: Path) -> None:
    """nano with little to do: chunks of a few tasks, trainings of a few steps with a checkpoint at each."""
    preset = find("nano")
    raw: dict[str, Any] = yaml.safe_load(preset.read_text())
    raw["base"] = str(preset.parent)
    for name, rows, source in (("heldout", 12, "heldout"), ("thumbs", 600, "thumbs"), ("pairs", 600, "pairs")):
        kept = asset(f"data/nano/{source}.jsonl").read_text().splitlines()[:rows]
        (base / f"{name}.jsonl").write_text("\n".join(kept))
    raw["engine"] |= {"name": "ctranslate2", "chunk": 8}
    raw["instructions"] |= {"tasks": 24, "paraphrases": {"per_winner": 1}}
    raw["sampling"] |= {"n": 2, "max_tokens": 16}
    reward = raw["reward"]
    reward |= {"layers": 2, "checkpoint_minutes": 1e-6, "joint": {"epochs": 0.5, "learning_rate": 4e-4}, "epochs": 0.3}
    reward["members"] = {name: reward["members"][name] | {"data": str(base / f"{name}.jsonl")} for name in ("thumbs", "pairs")}
    raw["training"] |= {"epochs": 2, "batch_size": 8, "batching": "plain", "checkpoint_minutes": 1e-6}
    raw["evaluation"] |= {"tasks": str(base / "heldout.jsonl"), "samples": 2, "curve_tasks": 24}
    (base / "tiny.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
