"""The weights that CTranslate2 reads, as the engine converted them: whether each folder is whole."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from flywheel.integrity.folders import CONVERTED
from flywheel.store.checking import Fault
from flywheel.workspace import Workspace

CONVERSIONS = "conversions"
WEIGHTS = "model.bin"
KNOWN_VERSION = 6
"""Of the layout of the weights' file."""


def conversion_faults(workspace: Workspace) -> Iterator[Fault]:
    """Conversions that the engine could not load."""
    converted = workspace.models / CONVERTED
    for folder in sorted(converted.iterdir()) if converted.is_dir() else ():
        if folder.suffix == ".tmp":  # being written, or left over
            continue
        if lacking := _lacking(folder):
            yield Fault(
                check=CONVERSIONS,
                found=f"{workspace.inside(folder)}: {lacking}",
                remedy="remove the folder, it is converted anew when it is needed",
            )


def _lacking(folder: Path) -> str | None:
    if not (folder / WEIGHTS).is_file():
        return f"{WEIGHTS} is missing"
    if not _is_whole(folder / WEIGHTS):
        return f"{WEIGHTS} is cut"
    for name, pattern in (("config.json", "config.json"), ("vocabulary.json", "*vocabulary.*")):
        files = list(folder.glob(pattern))
        if not files:
            return f"{name} is missing"
        for file in files:
            if not _is_read(file):
                return f"{file.name} is cut"
    return None


def _is_read(file: Path) -> bool:
    try:
        text = file.read_text(encoding="utf-8")
        return bool(json.loads(text) if file.suffix == ".json" else text)
    except (ValueError, RecursionError, OSError):
        return False


def _is_whole(weights: Path) -> bool:
    """Whether CTranslate2's file goes on to its end: read by its own counts, its numbers left out."""
    with weights.open("rb") as file:

        def number(form: str) -> int:
            return int(struct.unpack(form, file.read(struct.calcsize(form)))[0])

        def skip(size: int) -> None:
            file.seek(size, os.SEEK_CUR)

        try:
            version = number("<I")
            if version != KNOWN_VERSION:  # of another CTranslate2: laid out otherwise, perhaps
                return True
            skip(number("<H"))
            skip(4)  # its revision
            for _ in range(number("<I")):
                skip(number("<H"))
                skip(4 * number("<B"))
                skip(1)  # its type
                skip(number("<I"))
            for _ in range(2 * number("<I")):  # pairs of an alias and its variable
                skip(number("<H"))
        except struct.error:
            return False
        return file.tell() <= weights.stat().st_size
