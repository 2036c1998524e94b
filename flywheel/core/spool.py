"""Rows in a temporary file instead of in memory, for what is read out of order."""

from __future__ import annotations

import pickle
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from flywheel.errors import RESUME, StoreError

Row = TypeVar("Row")


class Spooled(Sequence[Row]):
    """The rows of an iterable, in an unnamed file that goes with this object; only their offsets are in memory.

    Raises StoreError where the folder has no space for them.
    """

    def __init__(self, rows: Iterable[Row], folder: Path) -> None:
        self._starts = array("Q")
        try:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (open as long as the rows are)
            weakref.finalize(self, self._file.close)
            for row in rows:
                self._starts.append(self._file.tell())
                pickle.dump(row, self._file, protocol=pickle.HIGHEST_PROTOCOL)
            self._file.flush()
        except OSError as error:
            raise StoreError(
                f"cannot write to {folder}: {error.strerror or error}",
                f"Free some space, or fix the folder's permissions. {RESUME}",
            ) from None

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        self._file.seek(self._starts[place])
        return pickle.load(self._file)
